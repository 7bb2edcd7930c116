"""What is found of devices among their peers: windows of cohorts that are due are joined and judged at once, and what changed is said.

Of each window that is judged: who is an outlier now and was not said to be, or otherwise; and who was and is none any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud import compare
from headwater_cloud.cohorts import Cohort, Cohorts, Devices, Told, Window
from headwater_cloud.compare import Judged
from headwater_cloud.outputs import SOURCE
from headwater_shared import peers, records
from headwater_shared.bus import Record
from headwater_shared.identity import stable_id
from headwater_shared.peers import Finding, Peers, PeersHead
from headwater_shared.topics import IN

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST = 200
"""Findings of one window of a cohort: of more outliers, the furthest."""

_Due = tuple[Cohort, Window, list[Peers]]


def step(cohorts: Cohorts, some: Iterable[Peers], clock_us: int = 0) -> list[Finding]:
    """Take what came for one partition, and return what is found, or found no longer.

    Args:
        cohorts: the partition's state, which is changed in place.
        some: what came.
        clock_us: the latest clock of a shard that anything that came was made at.
    """
    cohorts.late = 0
    cohorts.take(some, clock_us)
    due = list(cohorts.due())
    out = [
        finding
        for at, one in zip(due, _judged(due, cohorts.devices), strict=True)
        for finding in _told(cohorts, at, one)
    ]
    cohorts.end_batch()
    return out


def finding_record(finding: Finding) -> Record:
    """For `hw-in`, where the device's shard reads it."""
    headers = records.headers(
        peers.FINDING, f"{finding.id}/{finding.made_us}", SOURCE, finding.start_us + finding.length_us
    )
    return Record(IN.name, finding.shard, finding.device, headers, peers.encode_finding(finding))


class _One(NamedTuple):
    """Of one window: who is an outlier, and who else was said to be one; all by device."""

    found: dict[str, Finding]
    others: dict[str, Finding]


class _Rows(NamedTuple):
    """Devices of several windows, each once in a window; n rows."""

    window: Ints
    source: Ints
    """Which record it is from,"""
    at: Ints
    """and where in it."""
    mean: Floats


def _judged(due: Sequence[_Due], devices: Devices) -> Iterator[_One]:
    """Judge windows, all at once; yield of each what is to be known of it."""
    bodies = [body for _, _, several in due for body in several]
    of_window = np.repeat(np.arange(len(due)), [len(several) for _, _, several in due])
    rows = _joined(bodies, of_window, devices)
    there, group = np.unique(rows.window, return_inverse=True)
    heads = [max((body.head for body in several), key=_terms) for _, _, several in due]
    terms = [heads[number] for number in there.tolist()]
    judged = compare.judge(
        rows.mean,
        group,
        np.array([head.away for head in terms]),
        np.array([head.least for head in terms]),
        np.array([head.peers for head in terms], np.int64),
    )
    ends = np.searchsorted(rows.window, np.arange(len(due) + 1))
    outliers = np.flatnonzero(judged.outlier)
    for number, (_, window, _) in enumerate(due):
        first, end = int(ends[number]), int(ends[number + 1])
        some = _furthest(outliers[(outliers >= first) & (outliers < end)], judged.away)
        made = [_finding(bodies, rows, judged, row, heads[number], outlier=True) for row in some]
        found = {one.device: one for one in sorted(made, key=lambda one: (-one.away, one.device))[:MOST]}
        gone = [_row(bodies, rows, first, end, device) for device in window.told if device not in found]
        made = [_finding(bodies, rows, judged, row, heads[number], outlier=False) for row in gone if row >= 0]
        yield _One(found, {one.device: one for one in made})


def _joined(bodies: Sequence[Peers], of_window: Ints, devices: Devices) -> _Rows:
    """Put the devices of records one below the other, by window; of one that two shards have the one with more readings counts."""
    sizes = [len(body.devices) for body in bodies]
    source = np.repeat(np.arange(len(bodies)), sizes)
    at = np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)])
    mean = np.concatenate([np.zeros(0), *(body.mean for body in bodies)])
    window = of_window[source]
    if len(bodies) == len({*of_window.tolist()}):
        return _Rows(window, source, at, mean)
    count = np.concatenate([body.count for body in bodies])
    device = np.concatenate([devices.of(body.devices) for body in bodies])
    order = np.lexsort((source, -count, device, window))
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(device[order]) != 0) | (np.diff(window[order]) != 0)
    rows = order[first]
    return _Rows(window[rows], source[rows], at[rows], mean[rows])


def _furthest(outliers: Ints, away: Floats) -> list[int]:
    """Return the rows that are among the furthest, and those that are as far as the last of them."""
    if len(outliers) > MOST:
        least = np.partition(away[outliers], -MOST)[-MOST]
        outliers = outliers[away[outliers] >= least]
    rows: list[int] = outliers.tolist()
    return rows


def _row(bodies: Sequence[Peers], rows: _Rows, first: int, end: int, device: str) -> int:
    """Return the row of a device in a window whose rows are these, -1 for none."""
    for source in sorted({*rows.source[first:end].tolist()}):
        if device in bodies[source].devices:
            at = bodies[source].devices.index(device)
            found = np.flatnonzero((rows.source[first:end] == source) & (rows.at[first:end] == at))
            if len(found):
                return first + int(found[0])
    return -1


def _terms(head: PeersHead) -> tuple[int, float, float, int, str, str]:
    """Order the rules that records of one window were made by: the one that was put in last counts."""
    return head.rules_us, head.away, head.least, head.peers, head.severity, head.text


def _finding(
    bodies: Sequence[Peers], rows: _Rows, judged: Judged, row: int, head: PeersHead, *, outlier: bool
) -> Finding:
    body, at = bodies[int(rows.source[row])], int(rows.at[row])
    value, median, spread, away, others = (
        float(body.mean[at]), float(judged.median[row]), float(judged.spread[row]), float(judged.away[row]), int(judged.peers[row])
    )  # fmt: skip
    device = body.devices[at]
    text = compare.words(value, median, spread, away, others)
    if not outlier:
        text += ", which is no longer far"
    if head.text:
        text = f"{head.text.replace('{device}', device)}: {text}"
    return Finding(
        finding_id(head, device), head.rule, head.cohort, device, head.metric, head.level, head.start_us, head.length_us,
        body.head.shard, body.agents[int(body.agent[at])], 0, outlier, value, median, spread, away, others, head.severity, text,
    )  # fmt: skip


def finding_id(head: PeersHead, device: str) -> str:
    """Return the id of what is found of a device in a window by a rule."""
    return stable_id("finding", head.rule, head.cohort, device, head.metric, head.level, head.start_us)


def _told(cohorts: Cohorts, due: _Due, one: _One) -> Iterator[Finding]:
    """Yield what differs from what was said of a window, and note it."""
    cohort, window, bodies = due
    before = window.told
    told = {device: _note(finding) for device, finding in one.found.items()}
    said = [one.found[device] for device, note in told.items() if before.get(device) != note]
    for device in before.keys() - told.keys():
        taken_back = one.others.get(device) or _gone(bodies[0].head, device, before[device])
        said.append(taken_back)
    if not said:
        return
    made_us = cohorts.tell(cohort, window, told)
    for finding in sorted(said, key=lambda one: one.device):
        yield msgspec.structs.replace(finding, made_us=made_us)


def _note(finding: Finding) -> Told:
    return Told(finding.shard, finding.agent, crc32(peers.encode_finding(finding)))


def _gone(head: PeersHead, device: str, told: Told) -> Finding:
    """What is said of a device that has no window any more."""
    return Finding(
        finding_id(head, device), head.rule, head.cohort, device, head.metric, head.level, head.start_us, head.length_us,
        told.shard, told.agent, 0, False, 0.0, 0.0, 0.0, 0.0, 0, head.severity, "its window is not there any more",
    )  # fmt: skip
