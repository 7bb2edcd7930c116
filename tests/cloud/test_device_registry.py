"""The device registry in the shards: of each device the latest change, whatever order and however often they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud import device_registry
from headwater_cloud.names import Names
from headwater_cloud.pipeline import Output
from headwater_cloud.shard import PIECE_LIMIT, Shard, load
from headwater_cloud.write import write
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.records import RegistryChange
from headwater_shared.registry import Entry, change_of, cohort_of, entry_of, rank, wrong
from headwater_shared.topics import DEAD_LETTERS, IN
from tests.cloud.made import SHARD, T0, S
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import Side, in_memory

P100, P200 = Entry(model="P100", place="Hall 2", metrics={"temp": "°C"}), Entry(model="P200", cohort="old")


def copy(change: RegistryChange, shard: int = SHARD) -> Record:
    """A change as it is copied into what shards read."""
    headers = records.headers(records.REGISTRY, f"{change.device}/{change.time_us}", "cloud", change.time_us)
    return Record(IN.name, shard, change.device, headers, records.encode(change))


def said(at: int, entry: Entry | None, device: str = "s1/d1") -> RegistryChange:
    """What is known of a device from so many seconds after T0 on."""
    return change_of(device, entry, T0 + at * S)


def stored(side: Side) -> dict[str, tuple[Any, ...]]:
    """What views can read of the registry."""
    rows = side.rows("SELECT device, removed, model, place, cohort, metrics FROM registry")
    return {device: tuple(rest) for device, *rest in rows}


def entries(side: Side) -> dict[str, Entry]:
    """What the operators know, of all shards."""
    shards: dict[int, Shard] = side.runner._shards
    return {device: entry for shard in shards.values() for device, entry in shard.registry.items()}


def test_an_entry_reaches_the_shard_and_the_table(tmp_path: Path) -> None:
    """It is there after a restart too; a change replaces it, a removal takes it away, and the row says so."""
    side = Side(tmp_path)
    side.take(copy(said(1, P100)), copy(said(1, P200, "s1/d2")))
    assert entries(side) == {"s1/d1": P100, "s1/d2": P200}
    assert stored(side)["s1/d1"] == (0, "P100", "Hall 2", "", '{"temp":"°C"}')
    side.reopen()
    assert entries(side) == {"s1/d1": P100, "s1/d2": P200}
    side.take(copy(said(2, P200)), copy(said(3, None, "s1/d2")))
    side.reopen()
    assert entries(side) == {"s1/d1": P200}
    assert stored(side) == {"s1/d1": (0, "P200", "", "old", "{}"), "s1/d2": (1, "", "", "", "{}")}
    side.close()


def test_an_older_copy_does_not_bring_a_removed_device_back(tmp_path: Path) -> None:
    """Nor after a restart: it is known for ever that it was removed."""
    side = Side(tmp_path)
    side.take(copy(said(1, P100)), copy(said(2, None)))
    side.reopen()
    side.take(copy(said(1, P100)))
    assert entries(side) == {}
    assert stored(side)["s1/d1"][0] == 1
    side.close()


def test_a_change_is_committed_at_once(tmp_path: Path) -> None:
    """It is not left to wait as clocks and heartbeats are, whose later output would take its row's place."""
    side = Side(tmp_path)
    side.put(copy(said(1, P100)))
    side.runner.step()
    side.put_clock(SHARD, seconds=1)
    side.run()
    assert stored(side).keys() == {"s1/d1"}
    side.close()


def test_what_is_damaged_is_a_dead_letter(tmp_path: Path) -> None:
    """Each with its reason; the others count."""
    side = Side(tmp_path)
    good = copy(said(1, P100))
    side.take(
        msgspec.structs.replace(good, body=good.body[:-3]),
        msgspec.structs.replace(good, body=b"\xc3\x01" + bytes(30)),
        copy(RegistryChange("no-device", T0)),
        good,
    )
    reasons = [letter.headers["reason"] for letter in side.topic(DEAD_LETTERS)]
    assert sorted(reasons) == ["damaged", "damaged", "unknown-version"]
    assert entries(side) == {"s1/d1": P100}
    side.close()


def test_r24_only_what_changed_is_written_and_each_piece_is_small(tmp_path: Path) -> None:
    """A piece a device; the largest entry that may be is below the limit of a piece, whatever an engine adds to it."""
    names = ["\U0001f600" * 126 + f"{n:02x}" for n in range(256)]
    longest = "\U0001f600" * 256
    large = Entry(longest, longest, longest, longest, dict.fromkeys(names, "😀" * 32))
    assert not wrong("s1/d1", large)
    side = Side(tmp_path)
    side.take(copy(said(1, large)), *(copy(said(1, P100, f"s1/e{n}")) for n in range(100)))
    pieces = side.rows("SELECT name, length(body) FROM state WHERE name LIKE 'registry/%'")
    assert len(pieces) == 101
    assert max(length for _, length in pieces) < PIECE_LIMIT - 10_000
    side.close()
    shard = load(SHARD, [])
    device_registry.step(shard.registered, shard.registry, [said(1, P100), said(1, P100, "s1/d2")])
    assert sorted(shard.pieces([], [], ["s1/d2"])) == ["clock", "registry/s1/d2"]


def test_an_entry_of_too_many_metrics_is_wrong() -> None:
    """It would not be kept as one piece."""
    assert "257 metrics are more than 256" in wrong("s1/d1", Entry(metrics={f"m{n}": "" for n in range(257)}))


def test_peers_are_those_of_the_cohort_or_else_of_the_model() -> None:
    """A device of which nothing is known has none."""
    assert [cohort_of(one) for one in (P100, P200, Entry(place="Hall 2"))] == ["P100", "old", ""]


_texts = st.sampled_from(["", "a", "b"])
_entries = st.builds(Entry, _texts, _texts, _texts, _texts, st.dictionaries(_texts.filter(bool), _texts))
_changes = st.builds(
    change_of, st.sampled_from(["s1/d1", "s1/d2"]), st.one_of(st.none(), _entries), st.integers(1, 3)
)


@settings(max_examples=40)
@given(st.lists(_changes, min_size=1, max_size=8), st.data())
def test_any_order_and_repetition_gives_the_same_entries(
    some: list[RegistryChange], data: st.DataObject
) -> None:
    """Of each device the latest change, of one time whichever ranks higher; in the state, after a restart, and in the table."""
    latest = {
        device: max((one for one in some if one.device == device), key=rank)
        for device in {one.device for one in some}
    }
    order = data.draw(st.permutations(some + data.draw(st.lists(st.sampled_from(some), max_size=8))))
    with in_memory() as folder:
        side = Side(folder, batch=data.draw(st.integers(1, 8)))
        side.take(*map(copy, order))
        known = entries(side)
        side.reopen()
        assert (
            known
            == entries(side)
            == {d: entry for d, one in latest.items() if (entry := entry_of(one)) is not None}
        )
        assert side.runner._shards[SHARD].registered == latest
        rows = side.rows("SELECT * FROM registry")
        assert {device: tuple(rest) for device, *rest in rows} == {d: rank(one) for d, one in latest.items()}
        side.close()


@settings(max_examples=20)
@given(st.lists(_changes, min_size=1, max_size=8), st.lists(st.booleans(), max_size=8), st.integers(1, 4))
def test_r24_shards_in_pieces_know_what_the_local_runner_knows_whatever_is_killed(
    some: list[RegistryChange], deaths: list[bool], batch: int
) -> None:
    """A kill between the rows and the commit has the same changes, cut otherwise, written again."""
    with in_memory() as folder:
        local, side = Side(folder / "local"), PieceSide(folder / "pieces", batch)
        local.take(*map(copy, some))
        side.put(*map(copy, some))
        for dies in deaths:
            side.step(dies="before" if dies else "")
        side.run()
        known = side.rows("SELECT * FROM registry ORDER BY device")
        assert known == local.rows("SELECT * FROM registry ORDER BY device")
        side.kill()
        side.take(*map(copy, some))
        assert side._runs[SHARD].shard.registry == entries(local)
        assert side.rows("SELECT * FROM registry ORDER BY device") == known
        local.close()
        side.close()


def test_rows_written_again_from_an_older_cut_change_nothing(tmp_path: Path) -> None:
    """A checkpoint that is done again may put out an older change after a newer one: the newer row stays."""
    side = Side(tmp_path)
    newer, older = said(2, P200), said(1, P100)
    side.take(copy(newer))
    with side.store.transaction() as connection:
        write(connection, Output(registry=[older]), Names(), {}, "test")
        write(connection, Output(registry=[older]), Names(), {}, "test")
    assert stored(side) == {"s1/d1": (0, "P200", "", "old", "{}")}
    side.close()
