"""Topic, shards and registry.json hold one registry: what is missing anywhere is made good, whatever was cut off or begun anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from headwater_cloud import registry_copies
from headwater_cloud.registry_topic import RegistryTopic
from headwater_shared import registry, topics
from headwater_shared.bus import Record
from headwater_shared.errors import BusUnavailable
from headwater_shared.identity import shard_of
from headwater_shared.records import RegistryChange
from headwater_shared.registry import Entry, change_of
from headwater_shared.spread import Spread, SpreadMap
from headwater_shared.sqlite_log import SqliteLog
from tests.cloud.kills import Killed
from tests.cloud.made import SHARD, T0, S
from tests.cloud.side import FILE, LOG, Side
from tests.cloud.test_device_registry import P100, P200, entries, said

FILE_ENTRY = Entry(model="P300", metrics={"flow": "l/s"})


def in_topic(side: Side, *changes: RegistryChange) -> None:
    """Changes as `headwater-cloud devices` puts them into the topic, but for the copies: it is killed in between."""
    topic = RegistryTopic(side.log)
    for change in changes:
        topic.latest[change.device] = change
        topic.write([change.device])


def last_in_topic(side: Side) -> dict[str, RegistryChange]:
    """What a compaction keeps."""
    topic = RegistryTopic(side.log)
    topic.read()
    return topic._last


def looked(side: Side) -> int:
    """A look at the registry, and what it appends taken in; returns how many copies were made."""
    made = side.runner._registry.step(side.runner._shards)
    side.run()
    return made


def with_file(side: Side) -> Side:
    """A process that looks at registry.json, too."""
    side.runner._registry = registry_copies.RegistryCopies(side.log, side.folder / registry.FILE)
    return side


def test_r24_what_is_in_the_topic_only_reaches_the_shards(tmp_path: Path) -> None:
    """Whoever wrote it was killed before the copies: they are made, once; sites whose shard never had input among them."""
    side = Side(tmp_path)
    in_topic(side, said(1, P100), said(1, P200, "s2/d1"), said(2, P200, "s1/d2"), said(3, None, "s1/d2"))
    assert looked(side) == 3
    assert entries(side) == {"s1/d1": P100, "s2/d1": P200}
    assert looked(side) == 0
    in_topic(side, said(4, P200))
    assert looked(side) == 1
    assert entries(side)["s1/d1"] == P200
    side.close()


def test_a_new_file_of_the_cloud_side_gets_the_whole_registry(tmp_path: Path) -> None:
    """Copies of long ago are no longer in `hw-in`: the topic has the latest of each, and a start looks."""
    side = Side(tmp_path)
    in_topic(side, said(1, P100), said(2, P200), said(1, P100, "s2/d1"))
    looked(side)
    side.log.retain(side.clock.wall_us + 30 * 86_400 * S)
    side.clock.advance(30 * 86_400)
    side.runner.read_for_good()
    side.log.retain(side.clock.wall_us)
    side.close()
    for path in side.folder.glob(FILE + "*"):
        path.unlink()
    side.open()
    side.run()
    assert entries(side) == {}, "the copies are gone"
    assert looked(side) == 2
    assert entries(side) == {"s1/d1": P200, "s2/d1": P100}
    side.close()


def test_a_log_that_is_begun_anew_gets_what_the_shards_know(tmp_path: Path) -> None:
    """Removed ones too: a compaction has something to keep again."""
    side = Side(tmp_path)
    in_topic(side, said(1, P100), said(1, P200, "s1/d2"), said(2, None, "s1/d2"))
    looked(side)
    side.close()
    (tmp_path / LOG).unlink()
    side.open()
    assert last_in_topic(side) == {}
    looked(side)
    assert last_in_topic(side) == {"s1/d1": said(1, P100), "s1/d2": said(2, None, "s1/d2")}
    side.close()


def test_an_older_record_that_came_last_is_not_what_a_compaction_keeps(tmp_path: Path) -> None:
    """Two people change a device at once, and the record of the earlier change is appended last: the later one is put after it."""
    side = Side(tmp_path)
    in_topic(side, said(2, P200), said(1, P100))
    assert last_in_topic(side) == {"s1/d1": said(1, P100)}
    looked(side)
    assert last_in_topic(side) == {"s1/d1": said(2, P200)}
    assert entries(side) == {"s1/d1": P200}
    side.close()


def test_the_boxs_own_file_reaches_its_cloud_side(tmp_path: Path) -> None:
    """What `headwater registry` writes, as it changes: new devices, others, removed ones; and what did not change is not repeated."""
    side = with_file(Side(tmp_path))
    path = tmp_path / registry.FILE
    for now, change in (
        (1, {"s1/d1": P100, "s1/d2": P200}),
        (2, {"s1/d1": FILE_ENTRY, "s1/d2": P200}),
        (3, {"s1/d2": P200}),
    ):
        with registry.changed(path, T0 + now * S) as devices:
            devices.clear()
            devices.update(change)
        assert looked(side) == (2 if now == 1 else 1)
        assert entries(side) == change
        assert looked(side) == 0
    assert last_in_topic(side)["s1/d1"].removed
    side.reopen()
    assert looked(with_file(side)) == 0
    side.close()


def test_of_the_file_and_the_topic_the_later_word_counts(tmp_path: Path) -> None:
    """Device by device: what a person says with `headwater-cloud devices` is not undone because another device changed in the file."""
    side = with_file(Side(tmp_path))
    path = tmp_path / registry.FILE
    with registry.changed(path, T0 + S) as devices:
        devices.update({"s1/d1": P100, "s1/d2": P100})
    looked(side)
    in_topic(side, said(2, P200))
    with registry.changed(path, T0 + 3 * S) as devices:
        devices["s1/d2"] = P200
    looked(side)
    assert entries(side) == {"s1/d1": P200, "s1/d2": P200}
    with registry.changed(path, T0 + 4 * S) as devices:
        devices["s1/d1"] = FILE_ENTRY
    looked(side)
    assert entries(side)["s1/d1"] == FILE_ENTRY
    side.close()


def test_a_file_of_before_has_no_times_and_yields(tmp_path: Path) -> None:
    """Version 1: its devices count where nothing else is known of them; the first change gives it times."""
    side = with_file(Side(tmp_path))
    path = tmp_path / registry.FILE
    path.write_text('{"version":1,"devices":{"s1/d1":{"model":"P100"},"s1/d2":{"model":"P100"}}}')
    in_topic(side, said(1, P200))
    looked(side)
    assert entries(side) == {"s1/d1": P200, "s1/d2": Entry("P100")}
    with registry.changed(path, T0 + 2 * S) as devices:
        devices["s1/d1"] = P100
    looked(side)
    assert entries(side)["s1/d1"] == P100
    side.close()


def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    """What was known of it stays, and when it is mended it counts."""
    side = with_file(Side(tmp_path))
    path = tmp_path / registry.FILE
    with registry.changed(path, T0 + S) as devices:
        devices["s1/d1"] = P100
    looked(side)
    shutil.copyfile(path, tmp_path / "kept")
    path.write_text("{")
    assert looked(side) == 0
    assert entries(side) == {"s1/d1": P100}
    (tmp_path / "kept").replace(path)
    with registry.changed(path, T0 + 2 * S) as devices:
        devices["s1/d1"] = P200
    looked(side)
    assert entries(side) == {"s1/d1": P200}
    side.close()


def test_a_record_of_the_topic_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    """It stays in the topic; the others reach the shards."""
    side = Side(tmp_path)
    in_topic(side, said(1, P100))
    (good,) = side.topic(topics.REGISTRY)
    for body in (good.body[:-3], b"\xc3\x01" + bytes(20), b""):
        side.put(Record(good.topic, good.partition, "s1/d1", good.headers, body))
    in_topic(side, said(1, P200, "s1/d2"))
    looked(side)
    assert entries(side) == {"s1/d1": P100, "s1/d2": P200}
    side.close()


def test_r25_a_site_that_is_spread_has_its_registry_in_each_of_its_shards(tmp_path: Path) -> None:
    """A device's copy goes to all shards that the device is ever on, so that its cohort is known where its windows are."""
    side = Side(tmp_path)
    spread = [Spread("s1", T0, 64)]
    side.runner._registry = registry_copies.RegistryCopies(side.log, spread=spread)
    in_topic(side, said(1, P100), said(1, P200, "s2/d1"))
    wanted = SpreadMap(spread).shards("s1/d1")
    assert len(wanted) == 2
    assert looked(side) == 3
    assert looked(side) == 0
    found = {number for number, shard in side.runner._shards.items() if "s1/d1" in shard.registered}
    assert found == wanted
    assert entries(side) == {"s1/d1": P100, "s2/d1": P200}
    side.close()


def test_of_several_processes_each_looks_after_the_shards_that_it_holds(tmp_path: Path) -> None:
    """What is of another shard is copied once that is held, too; all of them see the whole topic."""
    side = Side(tmp_path)
    copies = registry_copies.RegistryCopies(side.log)
    in_topic(side, said(1, P100), said(1, P200, "s2/d1"))
    other = shard_of("s2")
    assert copies.step(side.runner._shards, [SHARD]) == 1
    assert copies.step(side.runner._shards, [SHARD]) == 0
    side.run()
    assert entries(side) == {"s1/d1": P100}
    assert copies.step(side.runner._shards, [SHARD, other]) == 1
    side.run()
    assert entries(side) == {"s1/d1": P100, "s2/d1": P200}
    side.close()


def test_a_bus_that_is_away_for_a_moment_loses_no_change(tmp_path: Path) -> None:
    """At the topic or at the copies, twice: what was not appended is still known."""
    for topic in (topics.REGISTRY.name, topics.IN.name):
        folder = tmp_path / topic
        side = Side(folder)
        with registry.changed(folder / registry.FILE, T0 + S) as devices:
            devices["s1/d1"] = P100
        with closing(Away(folder / LOG)) as bus:
            copies = registry_copies.RegistryCopies(bus, folder / registry.FILE)
            bus.away = topic
            for _ in range(2):
                with pytest.raises(BusUnavailable):
                    copies.step(side.runner._shards)
            bus.away = ""
            assert copies.step(side.runner._shards) == 1
        side.run()
        assert (entries(side), len(last_in_topic(side))) == ({"s1/d1": P100}, 1)
        side.close()


class Away(SqliteLog):
    """The real log, which may take nothing for one topic."""

    away = ""

    def append(self, records: Sequence[Record]) -> None:
        if records and records[0].topic == self.away:
            raise BusUnavailable("away")
        super().append(records)


def test_a_kill_between_topic_and_copies_is_healed_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At "cloud.registry" the topic has a change of the file, and the shards have it not: the next process sees that."""

    def killed(name: str) -> None:
        raise Killed(name)

    side = with_file(Side(tmp_path))
    with registry.changed(tmp_path / registry.FILE, T0 + S) as devices:
        devices["s1/d1"] = P100
    with monkeypatch.context() as patch:
        patch.setattr(registry_copies, "reached", killed)
        with pytest.raises(Killed):
            side.runner._registry.step({})
    assert last_in_topic(side) == {"s1/d1": change_of("s1/d1", P100, T0 + S)}
    side.drop()
    side.open()
    assert looked(side) == 1
    assert entries(side) == {"s1/d1": P100}
    side.close()
