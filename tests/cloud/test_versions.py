"""What agents of another version send: frozen bytes of before are taken in; what is of later is kept whole, and taken in after the upgrade."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headwater_cloud.outputs import revived
from headwater_shared import avro, records
from headwater_shared.bus import Record, Stored
from headwater_shared.records import Anomaly, Score
from headwater_shared.topics import DEAD_LETTERS, IN
from tests.cloud.made import T0, Agent, anomaly_record, row
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import Side
from tests.fixtures.contents import FRAME_1, FRAMES, RECORDS

FIXTURES = Path(__file__).parents[1] / "fixtures"

Runner = Callable[[Path], Side | PieceSide]
both = pytest.mark.parametrize("runner", [Side, PieceSide], ids=["local", "pieces"])


def frozen(name: str) -> Record:
    """The bytes of a version, as its agent put them on the bus."""
    what = (FRAMES | RECORDS)[name]
    kind = records.FRAME if name in FRAMES else name.partition("-")[0]
    identity = records.identity_text(what.agent, what.epoch, what.shard, what.seq)
    headers = records.headers(kind, identity, f"headwater-edge/{what.agent}", T0)
    return Record(IN.name, what.shard, what.agent, headers, (FIXTURES / name).read_bytes())


def dead(side: Side | PieceSide) -> list[Stored]:
    """The dead letters, as they lie on the bus."""
    if isinstance(side, Side):
        return side.topic(DEAD_LETTERS)
    letters = [one for one in side.records if one.topic == DEAD_LETTERS.name]
    return [Stored(one.topic, 0, n, 0, one.key, one.headers, one.body) for n, one in enumerate(letters)]


@both
@pytest.mark.covers("R23")
def test_r23_what_an_old_agent_sends_is_taken_in(runner: Runner, folder: Path) -> None:
    """Frames, anomalies, commands and status of devices in the frozen bytes of their first versions: rows, and nothing dead."""
    for name in ("frame-1.avro", "frame-1-empty.avro", "anomaly-1.avro", "anomaly-2.avro", "command-1.avro", "device-1.avro"):  # fmt: skip
        side = runner(folder / name)
        side.put(frozen(name))
        side.run()
        assert not dead(side), name
        kind = name.partition("-")[0]
        if name == "frame-1.avro":
            rows = side.rows("SELECT count FROM window WHERE shard >= 0 ORDER BY count")
            assert [n for (n,) in rows] == sorted(FRAME_1.parts.aggregates.count.tolist())
        elif kind != "frame":
            assert side.rows(f"SELECT agent FROM {kind}") == [("agent-ä",)], name
        side.close()


@both
@pytest.mark.covers("R23")
def test_r23_what_a_newer_agent_sends_waits_for_the_upgrade(
    runner: Runner, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud side that knows no `anomaly-2`: what rules found and the frames around it count, the record is a dead letter with its bytes; upgraded, it is taken in once it is replayed."""
    agent = Agent()
    by_rule = agent.anomaly("begin", 1.0)
    plain = records.decode(Anomaly, agent.anomaly("begin", 2.0, rule="unusual").body)
    by_detector = anomaly_record(msgspec.structs.replace(plain, scores=[Score("density", 9.0)], degree=0.5))
    side = runner(folder / "side")
    with monkeypatch.context() as before:
        older: dict[type[msgspec.Struct], tuple[str, ...]] = {**records._KINDS, Anomaly: ("anomaly-1",)}
        before.setattr(records, "_KINDS", older)
        side.put(agent.frame(row(0, 1.0)), by_rule, by_detector, agent.frame(row(10, 1.0)))
        side.run()
        assert side.rows("SELECT rule FROM anomaly") == [("too-hot",)]
        assert side.rows("SELECT count(*) FROM window WHERE shard >= 0") == [(2,)]
        (letter,) = dead(side)
        assert (letter.headers["reason"], letter.body) == ("unknown-version", by_detector.body)
    side.kill() if isinstance(side, PieceSide) else side.reopen()
    for _ in range(2):
        again = revived(letter)
        assert again is not None
        side.put(again)
        side.run()
    assert side.rows("SELECT rule, degree FROM anomaly ORDER BY 1") == [("too-hot", 0.0), ("unusual", 0.5)]
    assert side.rows("SELECT count(*) FROM window WHERE shard >= 0") == [(2,)]
    assert not side.rows("SELECT kind FROM report")
    side.close()


@pytest.mark.covers("R23", "R27")
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_r27_an_upgrade_between_rows_and_commit_loses_nothing(
    folder: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot read frames writes a batch of rows, and dies before Kafka's commit, so its dead letters are nowhere; the next one,
    upgraded, reads the same records in other cuts, and can read them: each counts, at once or once it is replayed.
    """
    agent = Agent()
    side = PieceSide(folder / "side")
    side.put(*(agent.frame(row(10 * n, 1.0)) for n in range(3)))
    with monkeypatch.context() as before:
        before.setattr(avro, "fingerprint", lambda _: bytes(8))
        side.step(dies="before")
    assert not dead(side)
    side.batch = cut
    side.step(dies="before")
    side.run()
    side.put(*(again for letter in dead(side) if (again := revived(letter)) is not None))
    side.run()
    assert side.rows("SELECT count(*), sum(count) FROM window WHERE shard >= 0") == [(3, 3)]
    side.close()
