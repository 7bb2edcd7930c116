"""What a demo knows of its scenario: the rules that it runs with, and, when it is over, what they found of the truth."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from headwater_appliance.audit import HISTORY
from headwater_appliance.judge import judge, lines
from headwater_cloud.history import History
from headwater_shared.ledger import Names

_DEFAULT = "pumps"


def rules_of(scenario: str) -> str:
    """Return the rules of a scenario that ships with Headwater, as TOML; those of the pumps for a file of one's own."""
    folder = resources.files("headwater_appliance") / "rules"
    own = folder / f"{scenario}.toml"
    return (own if own.is_file() else folder / f"{_DEFAULT}.toml").read_text()


def told(ledger: Path, data: Path) -> list[str]:
    """Hold what was found against the ledger's truth; return what to print.

    Raises:
        StateError: the ledger or the history is not there.
    """
    names = Names.read(ledger)
    history = History(data / HISTORY)
    try:
        verdict = judge(names.faults, history.anomalies())
    finally:
        history.close()
    origin_us = int((names.run or {}).get("origin_us", 0))
    return ["What was wrong, and what was found of it:", *lines(verdict, origin_us)]
