"""`alert-storm`: 50,000 anomalies in a minute from one site through the local runner: what people hear, and whether all are in the list."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from tests.bench.results import Result
from tests.cloud.made import Agent, clock_record
from tests.cloud.side import Side

ANOMALIES, DEVICES, SECONDS = 50_000, 5_000, 60
_SHARD = shard_of("storm")


def run(folder: Path) -> Iterator[Result]:
    """Measure it: half of the anomalies end after ten seconds, the others with the storm; then ten minutes pass."""
    side, agent = Side(folder / "storm"), Agent()
    before_mb = _memory_mb()
    a_second = ANOMALIES // SECONDS + 1
    spent, sent = 0.0, 0
    ends: dict[int, list[tuple[float, str]]] = {}
    for second in range(SECONDS):
        some = []
        for n in range(min(a_second, ANOMALIES - sent)):
            series, at = f"storm/d{sent % DEVICES}/m{sent // DEVICES}", second + n / a_second
            some.append(agent.anomaly("begin", at, series=series))
            ends.setdefault(second + 10 if sent % 2 else SECONDS, []).append((at, series))
            sent += 1
        some += [agent.anomaly("end", second, begin=at, series=series) for at, series in ends.pop(second, ())]
        spent += _taken(side, [clock_record(_SHARD, side.clock.wall_us), *some])
        side.clock.advance(1)
    left = [one for of in ends.values() for one in of]
    spent += _taken(side, [agent.anomaly("end", SECONDS + 1, begin=at, series=series) for at, series in left])
    for _ in range(40):
        side.clock.advance(15)
        _taken(side, [clock_record(_SHARD, side.clock.wall_us)])
    ((rows,),) = side.rows("SELECT count(*) FROM alert WHERE state = 'resolved'")
    ((incidents,),) = side.rows("SELECT count(*) FROM incident")
    ((told,),) = side.rows("SELECT count(*) FROM notification")
    ((piece,),) = side.rows("SELECT max(length(body)) FROM state")
    side.close()
    yield Result(
        "alert-storm", told, "notifications", ANOMALIES, "one a begin",
        "R27: the file's commits; notifications as the table has them",
        {
            "alerts in the list": rows, "lost": ANOMALIES - rows, "incidents": incidents,
            "CPU us an anomaly": round(spent / (2 * ANOMALIES) * 1e6, 1), "memory MB": round(_memory_mb() - before_mb),
            "largest piece of state": piece,
        },
    )  # fmt: skip


def _taken(side: Side, some: list[Record]) -> float:
    side.put(*some)
    before = time.process_time()
    side.run()
    return time.process_time() - before


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
