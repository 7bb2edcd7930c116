"""What a demo knows of its scenario: the rules that it runs with, and, when it is over, what they found of the truth."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from headwater_appliance.audit import HISTORY
from headwater_appliance.judge import judge, lines
from headwater_cloud.history import History
from headwater_shared import ledger as ledgers
from headwater_shared.ledger import Truth

_DEFAULT = "own"


def rules_of(scenario: str) -> str:
    """Return the rules of a scenario that ships with Headwater, as TOML; a few for a file of one's own."""
    folder = resources.files("headwater_appliance") / "rules"
    own = folder / f"{scenario}.toml"
    return (own if own.is_file() else folder / f"{_DEFAULT}.toml").read_text()


def told(ledger: Path, data: Path) -> list[str]:
    """Hold what was found against the ledger's truth; return what to print.

    Raises:
        StateError: the ledger or the history is not there.
    """
    truth = ledgers.read(ledger)
    history = History(data / HISTORY)
    try:
        verdict = judge(truth.faults, history.anomalies(), last_us=_last_us(truth))
    finally:
        history.close()
    origin_us = int(truth.run.get("origin_us", 0))
    return ["What was wrong, and what was found of it:", *lines(verdict, origin_us)]


def _last_us(truth: Truth) -> dict[str, int]:
    """Return the time of each series' last reading."""
    last = np.full(len(truth.series), -(2**63))
    np.maximum.at(last, truth.series_of, truth.time)
    return dict(zip(truth.series, last.tolist(), strict=True))
