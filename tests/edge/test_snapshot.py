"""The snapshot: a state comes back as it was, old ones restore and go on, and damage is told (R15)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from headwater_edge import snapshot
from headwater_edge.ring import HELD, OPEN
from headwater_edge.snapshot import Picture
from headwater_edge.state import State
from headwater_edge.store import open_store
from tests.edge.feed import DAY, Message, S, connect
from tests.edge.run import Run
from tests.fixtures import rows
from tests.fixtures.scenes import SCENES, Act, Scene, play

NEWEST = list(SCENES.values())[-1]
BEFORE, AFTER = NEWEST.before, NEWEST.afters[0]


def _played(acts: tuple[Act, ...], scene: Scene = NEWEST) -> Run:
    run = scene.run()
    play(run, acts)
    return run


def _picture() -> Picture:
    return snapshot.take(_played(BEFORE).state)


@pytest.mark.parametrize(
    "acts", [(), BEFORE[:1], BEFORE, BEFORE + AFTER], ids=["new", "started", "busy", "long"]
)
def test_r15_a_state_comes_back_as_it_was(acts: tuple[Act, ...]) -> None:
    """Taken, written, read and restored it is equal to the last bit: new, just started, in the middle of everything."""
    run = _played(acts)
    taken = snapshot.take(run.state)
    found = snapshot.restore(snapshot.decode(taken.tick, snapshot.encode(taken)))
    assert snapshot.fingerprint(found) == snapshot.fingerprint(run.state)
    assert found.tick == taken.tick == len(acts)


def test_r15_what_is_taken_shares_nothing_with_the_state() -> None:
    """The state goes on while its picture is written; and a restored state does not change the picture."""
    run = _played(BEFORE)
    taken = snapshot.take(run.state)
    before = snapshot.encode(taken)
    play(run, AFTER)
    assert snapshot.encode(taken) == before
    again = _played(BEFORE)
    again.state = snapshot.restore(taken)
    play(again, AFTER)
    assert snapshot.encode(taken) == before
    assert again.put_out == run.put_out


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("then", [0, 1], ids=["the journal goes on", "the machine boots"])
def test_r15_frozen_snapshots_restore_and_go_on(name: str, then: int) -> None:
    """From a snapshot of each format each window is right; from the newest the agent puts out what it would have without
    a restart, to the last bit. In older ones coarse panes bear another tick, under which they go out.
    """
    scene = SCENES[name]
    after = scene.afters[then]
    undisturbed, run = _played(scene.before + after, scene), _played(scene.before, scene)
    run.state = snapshot.restore(snapshot.decode(run.state.tick, rows(name)))
    play(run, after)
    run.flush()
    run.check()
    undisturbed.flush()
    if name == list(SCENES)[-1]:
        assert run.put_out == undisturbed.put_out
    assert [len(rows) for rows in run.put_out] == [len(rows) for rows in undisturbed.put_out]
    assert run.state.counters == undisturbed.state.counters
    assert [warning for output in run.outputs for warning in output.warnings] == [
        warning for output in undisturbed.outputs for warning in output.warnings
    ]


def test_r15_the_scene_leaves_nothing_out() -> None:
    """In the snapshot that is frozen there is something of everything, and what follows asks for all of it."""
    run = _played(BEFORE)
    state = run.state
    assert state.previous is not None
    assert {session.connection for session in state.sessions.by_client.values()} == {1, 2}
    assert len(state.transport.dump()["key"])
    assert {kind for kind, one in state.detectors.by_kind.items() if one.active.any()} == {
        "limits", "rates", "stuck", "missing", "jumps"
    }  # fmt: skip
    assert {rule.name for rule in state.detectors.limits.rules} == {"hot", "odd"}
    assert len(state.waiting)
    for ring in (state.levels.fine.ring, *(level.ring for level in state.levels.coarser)):
        assert (ring.status == OPEN).any()
        assert ring.flags.any()
    assert all(sessions.flags.any() for sessions in state.levels.sessions)
    assert (state.levels.fine.ring.status == HELD).any()
    play(run, AFTER)
    counters = run.state.counters
    assert (counters.by_transport, counters.by_meaning) == (6, 1)
    assert counters.late
    assert counters.revisions
    assert {a.phase for output in run.outputs[len(BEFORE) :] for a in output.anomalies} == {"begin", "end"}


def test_what_is_written_today_is_frozen() -> None:
    """The newest file has every section and every scalar that a snapshot has now: `python -m tests.fixtures.make`."""
    newest = list(SCENES)[-1]
    assert rows(newest)[0][0] == snapshot.FORMAT
    now, frozen = _picture(), snapshot.decode(9, rows(newest))
    assert {name: array.dtype for name, array in frozen.arrays.items()} == {
        name: array.dtype for name, array in now.arrays.items()
    }
    assert frozen.scalars.keys() == now.scalars.keys()


def test_every_piece_is_hashed_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections longer than a piece are cut, and put together again."""
    monkeypatch.setattr(snapshot, "_PIECE", 64)
    picture = _picture()
    written = snapshot.encode(picture)
    assert len(written) > len(picture.arrays) + 1
    assert max(map(len, written[1:])) <= 64
    found = snapshot.decode(picture.tick, written)
    assert snapshot.fingerprint(snapshot.restore(found)) == snapshot.fingerprint(snapshot.restore(picture))


def _damaged(written: list[bytes]) -> Iterator[list[bytes]]:
    """The rows with one byte changed, one row missing, doubled, cut short, or out of its place."""
    chance = random.Random(11)
    for at, row in enumerate(written):
        for _ in range(20):
            changed = bytearray(row)
            changed[chance.randrange(len(row))] ^= chance.randint(1, 255)
            yield [*written[:at], bytes(changed), *written[at + 1 :]]
        yield written[:at] + written[at + 1 :]
        yield [*written[: at + 1], *written[at:]]
        yield [*written[:at], row[:-1], *written[at + 1 :]]
    yield [written[0], *reversed(written[1:])]
    yield []


def test_r15_a_damaged_snapshot_is_refused() -> None:
    """Whatever became of its rows: a ValueError that names the tick, or the very same picture."""
    picture = _picture()
    written = snapshot.encode(picture)
    same = refused = 0
    said = set()
    for damaged in _damaged(written):
        try:
            found = snapshot.decode(picture.tick, damaged)
        except ValueError as error:
            said.add(str(error).partition(":")[0])
            refused += 1
        else:
            assert found.scalars == picture.scalars
            for name, array in picture.arrays.items():
                assert found.arrays[name].tobytes() == array.tobytes()
            same += 1
    assert said == {f"snapshot of tick {picture.tick}"}
    assert refused > 20 * len(written)
    assert same < 5


@pytest.mark.parametrize("head", [b"", b"\x00", b"\xffwhatever"])
def test_an_unknown_format_is_said(head: bytes) -> None:
    """A head of another format is no snapshot of ours."""
    written = snapshot.encode(_picture())
    with pytest.raises(ValueError, match="snapshot of tick 9: no head of a known format"):
        snapshot.decode(9, [head, *written[1:]])


def test_r15_a_snapshot_without_its_head_does_not_exist(tmp_path: Path) -> None:
    """The head is written last: until it is there a reader of the file sees the older snapshot only."""
    connection, lock = open_store(tmp_path / "edge.db")
    picture = _picture()
    written = snapshot.encode(picture)
    for tick in (picture.tick - 1, picture.tick):
        sections = list(enumerate(written))
        for section, body in sections if tick < picture.tick else sections[1:]:
            connection.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (tick, section, body))
    assert snapshot.ticks(connection) == [picture.tick - 1]
    assert snapshot.read(connection, picture.tick - 1).scalars == picture.scalars
    with pytest.raises(ValueError, match=f"snapshot of tick {picture.tick}"):
        snapshot.read(connection, picture.tick)
    connection.execute("INSERT INTO snapshot VALUES (?, 0, ?)", (picture.tick, written[0]))
    assert snapshot.ticks(connection) == [picture.tick, picture.tick - 1]
    connection.close()
    lock.release()


def test_r31_a_fingerprint_tells_every_part_of_the_state() -> None:
    """One bit of any array, one number of any scalar: another fingerprint."""
    picture = _picture()
    prints = {snapshot.fingerprint(snapshot.restore(picture))}
    for name, array in picture.arrays.items():
        if array.size:
            changed = array.copy()
            changed.reshape(-1).view(np.uint8)[0] ^= 1
            other = Picture(picture.tick, picture.scalars, picture.arrays | {name: changed})
            prints.add(snapshot.fingerprint(snapshot.restore(other)))
    filled = sum(array.size > 0 for array in picture.arrays.values())
    assert len(prints) == filled + 1
    state = snapshot.restore(picture)
    state.counters.late += 1
    assert snapshot.fingerprint(state) not in prints


def test_r15_a_snapshot_of_many_series_is_no_larger_than_its_state_needs() -> None:
    """Hundreds of series, and a thousand sessions: the rows are smaller than what they hold, none above 256 KB."""
    run = NEWEST.run()
    run.start()
    run.tick(events=tuple(connect(n, f"c{n}") for n in range(1, 1001)))
    run.tick(
        *[
            Message(((f"s1/d{n}/temp", DAY + k * S, n + k / 8),), n % 1000 + 1, k + 1)
            for n in range(400)
            for k in range(10)
        ]
    )
    picture = snapshot.take(run.state)
    written = snapshot.encode(picture)
    assert max(map(len, written)) <= 256 * 1024
    assert sum(map(len, written)) < picture.size
    state = snapshot.restore(snapshot.decode(picture.tick, written))
    assert isinstance(state, State)
    assert msgspec.to_builtins(state.counters) == msgspec.to_builtins(run.state.counters)
