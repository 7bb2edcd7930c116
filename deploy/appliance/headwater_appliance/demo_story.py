"""What is told when a demo is over: what was wrong in truth, what was found of it, and how long before it was too late."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from headwater_appliance import told as told_of
from headwater_appliance.audit import HISTORY
from headwater_appliance.demo_settings import FAST
from headwater_appliance.judge import judge, lines
from headwater_appliance.lead import leads
from headwater_cloud.history import History
from headwater_cloud.outputs import Notification
from headwater_shared import ledger as ledgers
from headwater_shared.ledger import Truth

_TOLD = "SELECT body FROM notification ORDER BY n"


def told(ledger: Path, data: Path, scale: float = 1.0, patterns: Iterable[str] = ()) -> list[str]:
    """Hold what was found against the ledger's truth; return what to print. At a scale all that is patient is as much more so.

    `patterns`: the names of those that there are.

    Raises:
        StateError: the ledger or the history is not there.
    """
    truth = ledgers.read(ledger)
    history = History(data / HISTORY)
    try:
        anomalies, alerts = list(history.anomalies()), list(history.alerts())
        notifications = [
            msgspec.json.decode(body, type=Notification) for (body,) in history.connection.execute(_TOLD)
        ]
    finally:
        history.close()
    verdict = judge(truth.faults, anomalies, last_us=_last_us(truth), scale=scale, alerts=alerts)
    origin_us = int(truth.run.get("origin_us", 0))
    early = leads(truth.faults, anomalies, origin_us, alerts) if scale >= FAST else []
    return [
        "What was wrong, and what was found of it:",
        *lines(verdict, origin_us)[:-1],
        *early,
        *told_of.patterns(alerts, patterns, origin_us),
        told_of.line(alerts, notifications),
        verdict.line(),
    ]


def _last_us(truth: Truth) -> dict[str, int]:
    """Return the time of each series' last reading."""
    last = np.full(len(truth.series), -(2**63))
    np.maximum.at(last, truth.series_of, truth.time)
    return dict(zip(truth.series, last.tolist(), strict=True))
