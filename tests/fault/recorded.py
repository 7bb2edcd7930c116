"""What the fault tests came to: a JSON line for each run that was audited, from which `tests/fault/REPORT.md` has its figures.

`HEADWATER_RECORDED` names the file; `make fault` sets it. Without it nothing is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

VARIABLE = "HEADWATER_RECORDED"

_LAST = re.compile(
    r"audit: acknowledged (\d+), counted (\d+), dead (\d+), lost (\d+), twice (\d+)"
    r"(?:, altered (\d+))?(?:, undecided (\d+))?"
)


class Audited(msgspec.Struct, frozen=True):
    """The last line of an audit."""

    acknowledged: int
    counted: int
    dead: int
    lost: int
    twice: int
    altered: int = 0
    undecided: int = 0

    @property
    def good(self) -> bool:
        """Nothing lost, nothing twice, nothing that could not be told."""
        return not (self.lost or self.twice or self.altered or self.undecided)


Recorded = Callable[[str, int, str | Audited], Audited]
"""The fixture `recorded`: takes down a fault, how often, and what the audit said; returns that."""


class Line(msgspec.Struct, frozen=True):
    """One run: which test, what was done to it how often, and what the audit said."""

    test: str
    fault: str
    times: int
    audited: Audited


def audited(said: str) -> Audited:
    """Read what an audit printed: its last line."""
    last = said.rstrip().rpartition("\n")[2]
    found = _LAST.fullmatch(last)
    assert found, said[-2000:]
    return Audited(*(int(number or 0) for number in found.groups()))


def record(test: str, fault: str, times: int, found: Audited) -> None:
    """Append a line: `fault` is a kind of fault ("kill -9", "power cut", "full disk"), `times` how often it was injected."""
    name = os.environ.get(VARIABLE)
    if name:
        with Path(name).open("ab") as file:
            file.write(msgspec.json.encode(Line(test, fault, times, found)) + b"\n")


def lines(file: Path) -> Iterator[Line]:
    """Read the lines back."""
    for line in file.read_bytes().splitlines():
        yield msgspec.json.decode(line, type=Line)
