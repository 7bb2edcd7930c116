"""Dead letters against the ledger: each unreadable message is one, and a reading in one of them need not be counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_findings import Finding, Findings
from headwater_appliance.audit_sent import Sent
from headwater_appliance.audit_stored import DeadLetter
from headwater_edge.decoded import IN_PART, named
from headwater_shared.digest import NO_TIME
from headwater_shared.identity import series_name
from headwater_shared.ledger import Unreadable

Flags = NDArray[np.bool_]


class Taken(NamedTuple):
    """One reading that a dead letter holds, as the fleet writes it."""

    series: str
    time_us: int
    value: float


def compare(
    unreadable: Sequence[Unreadable], letters: Sequence[DeadLetter], findings: Findings
) -> list[DeadLetter]:
    """Match unreadable messages with dead letters by topic and crc32.

    Returns:
        The letters that no unreadable message explains.
    """
    sure = Counter((u.topic, u.crc) for u in unreadable if u.acknowledged)
    sent = Counter((u.topic, u.crc) for u in unreadable)
    found = Counter(letter.key for letter in letters)
    findings.acknowledged += sure.total()
    for key in sent:
        missing, extra = sure[key] - found[key], found[key] - sent[key]
        findings.dead += min(found[key], sent[key])
        if missing > 0:
            findings.lost += missing
            text = f"{missing} of {sure[key]} acknowledged messages that nobody can read are no dead letters"
            findings.add(_of(key, "lost", text, sure[key], found[key]))
        elif extra > 0:
            findings.twice += extra
            text = "a message that nobody can read became more dead letters than were sent"
            findings.add(_of(key, "twice", text, sent[key], found[key]))
    return [letter for letter in letters if letter.key not in sent]


class SetAside:
    """Finds the readings that dead letters hold: they need not be counted (but may be, if the letter was salvaged)."""

    def __init__(self, letters: Sequence[DeadLetter], names: Sequence[str]) -> None:
        """Take the letters that no unreadable message explains, and the names of the series, sorted."""
        self._letters = letters
        self._index = {name: at for at, name in enumerate(names)}
        self._explained = [False] * len(letters)
        self._dead = 0

    def of(self, sent: Sent) -> Flags:
        """Return a flag a reading, for some series' readings."""
        dead = np.zeros(len(sent), np.bool_)
        for number, letter in enumerate(self._letters):
            for taken in readings_of(letter):
                at = _find(sent, self._index.get(taken.series, -1), taken, dead)
                if at >= 0:
                    dead[at] = self._explained[number] = True
        self._dead += int(dead.sum())
        return dead

    def judge(self, findings: Findings) -> None:
        """After all series: letters that hold nothing that was sent are added as `altered`."""
        findings.dead += self._dead
        for letter, explained in zip(self._letters, self._explained, strict=True):
            if not explained:
                findings.altered += 1
                text = f"a dead letter ({letter.reason}) of {len(letter.body)} bytes that nobody sent"
                findings.add(Finding("altered", text, topic=letter.topic))


def readings_of(letter: DeadLetter) -> Iterator[Taken]:
    """Yield the readings of a letter that were not taken: all, or of `not-taken` those that its detail names (R20)."""
    if letter.readings is not None:
        yield from (Taken(*reading) for reading in letter.readings)
        return
    words = letter.topic.split("/")
    try:
        body: Any = msgspec.json.decode(letter.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if len(words) not in {4, 5}:
        return
    time = body.get("t", NO_TIME) if isinstance(body, dict) else NO_TIME
    if len(words) == 5:  # hw/{site}/{device}/data/{metric}
        values = {words[4]: body.get("v") if isinstance(body, dict) else body}
    else:
        values = body.get("values", {}) if isinstance(body, dict) else {}
        if letter.reason in IN_PART:
            refused = named(letter.detail)
            values = {name: value for name, value in values.items() if name in refused}
    for metric, value in values.items():
        if isinstance(value, int | float) and isinstance(time, int) and math.isfinite(value):
            yield Taken(series_name(words[1], words[2], metric), time, float(value) + 0.0)


def _find(sent: Sent, series: int, taken: Taken, dead: Flags) -> int:
    """Return the index of a reading that was sent, or -1; of equal ones without a time, one that is not dead yet."""
    begin, end = np.searchsorted(sent.series, [series, series + 1])
    low, high = begin + np.searchsorted(sent.time[begin:end], [taken.time_us, taken.time_us + 1])
    same = np.flatnonzero((sent.value[low:high] == taken.value) & ~dead[low:high])
    return int(low + same[0]) if len(same) else -1


def _of(key: tuple[str, int], kind: Any, text: str, expected: int, found: int) -> Finding:
    shown = {"dead letters": {"expected": expected, "found": found}}
    return Finding(kind, f"{text} (crc32 {key[1]:08x})", topic=key[0], differences=shown)
