"""What rules and detectors found becomes records: numbered, with the readings around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.judge import Found
from headwater_edge.numbering import numbered
from headwater_edge.output import Output
from headwater_edge.rules import Change
from headwater_edge.state import State
from headwater_shared.identity import stable_id
from headwater_shared.records import Anomaly, Score

_SAMPLES = 32


def put_changes(state: State, changes: Sequence[Change], out: Output, note: str = "") -> None:
    """Put out what rules found; `note` stands for the text of a rule that is gone."""
    samples = state.levels.fine.recent.last_of({change.series for change in changes}, _SAMPLES)
    for change in changes:
        rule = change.rule
        made = _made(
            state, rule.name, change.series, change.begins, change.begin_us, change.time_us, rule.severity,
            note or rule.text, samples[change.series], value=change.value, limit=change.limit,
        )  # fmt: skip
        out.anomalies.append(made)


def put_found(state: State, some: Sequence[Found], out: Output) -> None:
    """Put out what detectors found: the reason stands behind the rule's text, there is no limit.

    The readings are those up to the end of the window, which may have closed together with many later ones.
    """
    for found in some:
        rule = found.rule
        samples = state.levels.fine.recent.up_to(found.series, found.time_us, _SAMPLES)
        made = _made(
            state, rule.name, found.series, found.begins, found.begin_us, found.time_us, rule.severity,
            ": ".join(filter(None, (rule.text, found.text))), samples, value=found.value,
            scores=[Score(name, rarity) for name, rarity in found.scores], degree=found.degree,
        )  # fmt: skip
        out.anomalies.append(made)


def _made(
    state: State, rule: str, series: int, begins: bool, begin_us: int, time_us: int, severity: str, text: str,
    rows: NDArray[np.int64], *, value: float, limit: float = np.nan, scores: Sequence[Score] = (), degree: float = 0.0,
) -> Anomaly:  # fmt: skip
    name = state.names[series]
    recent = state.levels.fine.recent
    return Anomaly(
        *numbered(state, state.spreading.map.shard(name, begin_us)),
        id=stable_id(rule, name, begin_us),
        rule=rule,
        series=name,
        phase="begin" if begins else "end",
        begin_us=begin_us,
        time_us=time_us,
        value=value,
        limit=limit,
        severity=severity,
        text=text,
        sample_times=recent.event[rows].tolist(),
        sample_values=state.meaning.of(recent.series[rows], recent.value[rows]).tolist(),
        scores=list(scores),
        degree=degree,
    )
