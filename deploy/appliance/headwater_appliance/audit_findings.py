"""What an audit found: what is wrong, where, with the evidence; the counts; the last line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Kind = Literal["lost", "twice", "altered", "undecided"]

MOST_SHOWN = 1_000
"""Findings that are kept with their evidence; the counts go on."""


@dataclass(slots=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: Kind
    text: str
    """What is wrong, for people."""
    series: str = ""
    level: str = ""
    start: str = ""
    """Of the window, ISO 8601."""
    topic: str = ""
    """Of a message that nobody can read."""
    differences: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What of the window differs: name to `expected` and `found`."""
    readings: list[dict[str, Any]] = field(default_factory=list)
    """Readings that the digest convicts: `time` as sent and `value`."""

    def __str__(self) -> str:
        where = " ".join(word for word in (self.series or self.topic, self.level, self.start) if word)
        told = [
            f"{name} is {_short(pair['found'])}, must be {_short(pair['expected'])}"
            for name, pair in self.differences.items()
        ]
        told += [f"reading {reading['value']!r} of {reading['time']}" for reading in self.readings]
        return f"audit: {self.kind}: {where}: {self.text}" + (f" ({'; '.join(told)})" if told else "")


@dataclass(slots=True)
class Findings:
    """The result of an audit."""

    acknowledged: int = 0
    """Readings, and unreadable messages, that a device was told are taken."""
    counted: int = 0
    """Readings in the windows of the shortest level."""
    dead: int = 0
    """Readings and unreadable messages in the dead letters."""
    lost: int = 0
    """Acknowledged, and at some level neither counted nor dead."""
    twice: int = 0
    """Counted or dead more than once."""
    altered: int = 0
    """Windows that hold something else than they must."""
    undecided: int = 0
    """Windows (or series without times) with too many uncertain readings to tell."""
    uncertain: int = 0
    """Readings that were sent and not acknowledged: they may count or not."""
    windows: dict[str, int] = field(default_factory=dict)
    """How many were compared, a level."""
    rollups: dict[str, int] = field(default_factory=dict)
    """How many rollups of sites, and of all sites, were compared with their windows, a level."""
    split: dict[str, int] = field(default_factory=dict)
    """Sessions that go on in another one, a level: by starts of the agent, or by readings later than sessions are held."""
    coarsened: int = 0
    """Windows within which finer ones are not kept: the agent let them go under pressure, and these hold their readings."""
    findings: list[Finding] = field(default_factory=list)
    not_shown: int = 0
    """Findings beyond `MOST_SHOWN`."""

    @property
    def good(self) -> bool:
        """Whether promise 1 holds."""
        wrong = self.lost or self.twice or self.altered or self.undecided
        return not (wrong or self.findings or self.not_shown)

    def add(self, finding: Finding) -> None:
        """Take a finding in; beyond `MOST_SHOWN` only that there was one."""
        if len(self.findings) < MOST_SHOWN:
            self.findings.append(finding)
        else:
            self.not_shown += 1

    def line(self) -> str:
        """Return the last line of an audit."""
        more = [(self.altered, "altered"), (self.undecided, "undecided")]
        return (
            f"audit: acknowledged {self.acknowledged}, counted {self.counted}, dead {self.dead}, "
            f"lost {self.lost}, twice {self.twice}" + "".join(f", {name} {n}" for n, name in more if n)
        )

    def evidence(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return {"good": self.good, "line": self.line(), **asdict(self)}


def iso(time_us: int) -> str:
    """Write a time of microseconds as ISO 8601, UTC."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us} us"
    return moment.isoformat().replace("+00:00", "Z")


def _short(value: Any) -> str:
    return "nothing" if value is None else repr(value) if isinstance(value, float) else str(value)
