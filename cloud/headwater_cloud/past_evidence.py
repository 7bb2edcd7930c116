"""Evidence of the stored past: what anomalies, findings, status, commands and windows in the cloud's file are to rules that may be new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from headwater_cloud.book import Book, Pattern
from headwater_cloud.collect import Collector, satisfied
from headwater_cloud.episodes import Episode
from headwater_cloud.evidence import Evidence
from headwater_cloud.history import History
from headwater_cloud.kept_evidence import KeyEvidence
from headwater_cloud.matching import Index
from headwater_cloud.patterns import episodes
from headwater_cloud.spans import place, steps_of
from headwater_cloud.watch import scope_of
from headwater_shared.parts import level_of
from headwater_shared.peers import Finding
from headwater_shared.records import Anomaly, Command, Device
from headwater_shared.registry import cohort_of, entry_of


class Past:
    """All shards in one, as they were."""

    number = 0

    def __init__(self, history: History, clock_us: int) -> None:
        self.clock_us = clock_us
        self.evidence: dict[str, KeyEvidence] = {}
        self._registry = {device: entry_of(change) for device, change in history.registry().items()}

    def cohort_of(self, device: str) -> str:
        """Return the cohort of a device, "" for none."""
        entry = self._registry.get(device)
        return "" if entry is None else cohort_of(entry)

    def is_home(self, _key: str) -> bool:
        """All is decided here."""
        return True


def collected(history: History, index: Index, from_us: int, to_us: int) -> tuple[Past, dict[str, int]]:
    """Collect the evidence of a time. Returns it by key, and how many rows of what were looked at."""
    past = Past(history, to_us)
    collector = Collector(past, index)
    anomalies = list(_anomalies(history, from_us, to_us))
    commands = list(_commands(history, from_us, to_us))
    devices = list(_devices(history, from_us, to_us))
    findings = list(_findings(history, from_us, to_us))
    collector.rows(anomalies, commands, devices)
    collector.findings(findings)
    windows = sum(_windows(collector, history, index, from_us, to_us))
    looked = {
        "anomalies": len({one.id for one in anomalies}), "changes of status": len(devices), "commands": len(commands), "findings": len(findings), "windows": windows,
    }  # fmt: skip
    return past, looked


class Trial(NamedTuple):
    """What patterns would have found."""

    looked: dict[str, int]
    """How many rows of what."""
    found: list[tuple[Episode, tuple[Evidence, ...]]]
    """By the time at which each was complete."""


def tried(history: History, book: Book, from_us: int, to_us: int) -> Trial:
    """Tell what patterns would have found, complete in [from_us, to_us); agents are taken to be complete up to its end."""
    index = Index(book)
    past, looked = collected(history, index, from_us - index.keep_us, to_us)
    out: list[tuple[Episode, tuple[Evidence, ...]]] = []
    for key, kept in past.evidence.items():
        by_step = _by_step(index, key, kept.evidence.values())
        for number, lists in by_step.items():
            found = episodes(index.patterns[number], key, lists, to_us, lambda _: to_us)
            out += [(group.episode, group.members) for group in found.groups]
    inside = [one for one in out if one[0].fired_us is not None and from_us <= one[0].fired_us < to_us]
    return Trial(looked, sorted(inside, key=lambda one: (one[0].fired_us or 0, one[0].rule, one[0].subject)))


def evidence_of(history: History, pattern: Pattern | None, begin_us: int, end_us: int) -> dict[str, Evidence]:
    """Return all evidence of a time by id, that of windows for a pattern."""
    index = Index(Book(() if pattern is None else (pattern,)))
    past, _ = collected(history, index, begin_us, end_us)
    return {one.id: one for kept in past.evidence.values() for one in kept.evidence.values()}


def in_order(some: Iterable[Evidence]) -> list[Evidence]:
    """Return evidence by its begin."""
    return sorted(some, key=place)


def _by_step(index: Index, key: str, some: Iterable[Evidence]) -> dict[int, list[list[Evidence]]]:
    out: dict[int, list[list[Evidence]]] = {}
    for one in some:
        for use in index.uses(one):
            if use.per == scope_of(key):
                lists = out.setdefault(use.pattern, [[] for _ in steps_of(index.patterns[use.pattern])])
                for at in use.steps:
                    lists[at].append(one)
    return out


def _anomalies(history: History, from_us: int, to_us: int) -> Iterator[Anomaly]:
    rows: list[Any] = history.connection.execute(
        "SELECT agent, shard, seq, tick, id, rule, series, phase, begin_us, time_us, value, severity, text FROM anomaly"
        " WHERE time_us >= ? AND time_us < ?",
        (from_us, to_us),
    ).fetchall()
    for agent, shard, seq, tick, id_, rule, series, phase, begin_us, time_us, value, severity, text in rows:
        yield Anomaly(
            agent, 0, shard, seq, tick, None, id_, rule, series, phase, begin_us, time_us, value, 0.0, severity, text
        )  # fmt: skip


def _findings(history: History, from_us: int, to_us: int) -> Iterator[Finding]:
    columns = ", ".join(Finding.__struct_fields__)
    rows: list[Any] = history.connection.execute(
        f"SELECT {columns} FROM finding WHERE outlier AND start_us >= ? AND start_us < ? ORDER BY start_us",
        (from_us, to_us),
    ).fetchall()
    for row in rows:
        yield Finding(*row)


def _commands(history: History, from_us: int, to_us: int) -> Iterator[Command]:
    rows: list[Any] = history.connection.execute(
        "SELECT agent, shard, seq, tick, id, status, reason, act, rule, anomaly, series, device, topic, name, arguments, undoes,"
        " begin_us, time_us, ttl_us FROM command WHERE time_us >= ? AND time_us < ?",
        (from_us, to_us),
    ).fetchall()
    for agent, shard, seq, tick, *rest in rows:
        yield Command(agent, 0, shard, seq, tick, None, *rest)


def _devices(history: History, from_us: int, to_us: int) -> Iterator[Device]:
    rows: list[Any] = history.connection.execute(
        'SELECT agent, shard, seq, tick, id, device, status, "before", reason, time_us, heard_us FROM device_change'
        " WHERE time_us < ? ORDER BY device, time_us",
        (to_us,),
    ).fetchall()
    since: dict[str, int] = {}
    for agent, shard, seq, tick, id_, device, status, before, reason, time_us, heard_us in rows:
        if time_us >= from_us:
            yield Device(
                agent, 0, shard, seq, tick, None, id_, device, status, before, since.get(device, 0), reason, time_us, heard_us
            )  # fmt: skip
        since[device] = time_us


def _windows(collector: Collector, history: History, index: Index, from_us: int, to_us: int) -> Iterator[int]:
    for name, steps in index.windows.items():
        if steps[0].level not in history.levels():
            continue
        hop_us = level_of(steps[0].level).hop_us
        for series in history.series():
            if not any(fnmatchcase(series, step.series) for step in steps):
                continue
            of = history.windows(series, steps[0].level, from_us, to_us)
            mean = of.aggregates.mean
            so = satisfied(steps[0], mean)
            for start, value in zip(of.start[so].tolist(), mean[so].tolist(), strict=True):
                collector.window(name, series, (start, hop_us), value, "")
            yield len(of)
