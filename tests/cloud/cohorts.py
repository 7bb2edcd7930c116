"""Comparisons in tests: records of shards by hand, what must be found of them in plain Python, and what is held in the end."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import numpy as np

from headwater_cloud.cohorts import Cohorts
from headwater_cloud.findings import step
from headwater_shared.peers import Finding, Peers, PeersHead
from tests.cloud.made import T0, S

MINUTE = 60 * S


class Made(NamedTuple):
    """What a shard has of a cohort in a window: the mean of each device."""

    shard: int
    minute: int
    clock: int
    """Seconds after T0."""
    means: dict[str, float]
    away: float = 6.0
    least: float = 0.0
    peers: int = 5
    rules_us: int = 1
    piece: int = 0
    pieces: int = 1
    readings: int | None = None
    rule: str = "apart"

    def record(self) -> Peers:
        n = len(self.means)
        head = PeersHead(
            self.rule, "pump-a", "temp", "1m", T0 + self.minute * MINUTE, MINUTE, self.shard, T0 + self.clock * S, self.piece, self.pieces,
            10 * n if self.readings is None else self.readings, self.rules_us, self.away, self.least, self.peers, "warning", "",
        )  # fmt: skip
        agents = [f"agent-{self.shard}"] if n else []
        none = np.zeros(n, np.int64)
        return Peers(
            head, list(self.means), agents, none, none + 10, np.array(list(self.means.values()), float)
        )


Place = tuple[int, str]
"""Minute and device."""


def wanted(some: Iterable[Made]) -> dict[Place, tuple[float, float]]:
    """Who is an outlier by the latest records of all shards: value and median. Row by row, from the definition."""
    latest: dict[tuple[int, int], list[Made]] = {}
    for one in some:
        known = latest.setdefault((one.minute, one.shard), [one])
        if _rank(one) > _rank(known[0]):
            known[:] = [one]
        elif _rank(one) == _rank(known[0]) and one not in known:
            known.append(one)
    out: dict[Place, tuple[float, float]] = {}
    for minute in {minute for minute, _ in latest}:
        records = [one for (at, _), some in sorted(latest.items()) if at == minute for one in some]
        means: dict[str, float] = {}
        for one in records:
            means |= {device: mean for device, mean in one.means.items() if device not in means}
        if not means:
            continue
        rule = max(records, key=lambda one: (one.rules_us, one.away, one.least, one.peers))
        n, middle = len(means), median(means.values())
        spread = 1.4826 * median(abs(mean - middle) for mean in means.values())
        spread = max(spread * (1 + 80 / max(n - 2, 1) ** 2), 1e-6 * abs(middle), 1e-12)
        far = {
            device: mean
            for device, mean in means.items()
            if abs(mean - middle) / spread > rule.away and abs(mean - middle) >= rule.least
        }
        if n - 1 >= rule.peers and 3 * len(far) <= n:
            out |= {(minute, device): (mean, middle) for device, mean in far.items()}
    return out


def _rank(one: Made) -> tuple[int, int, int]:
    return one.clock, one.record().head.readings, one.pieces


class Held:
    """The latest finding of each id, as a shard holds them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Finding] = {}
        self.said = 0

    def take(self, some: Iterable[Finding]) -> None:
        for one in some:
            self.said += 1
            known = self.by_id.get(one.id)
            assert known is None or one.made_us != known.made_us or one == known
            if known is None or one.made_us > known.made_us:
                self.by_id[one.id] = one

    def outliers(self) -> dict[Place, tuple[float, float]]:
        return {
            ((one.start_us - T0) // MINUTE, one.device): (one.value, one.median)
            for one in self.by_id.values()
            if one.outlier
        }


def patient(cohorts: Cohorts, held: Held) -> None:
    """Let the clock go on until no window waits."""
    held.take(step(cohorts, [], cohorts.clock_us + 3600 * S))
