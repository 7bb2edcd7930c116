"""The dead letters on the bus: read from the newest back, put where they lay again, deleted.

Letters stay where they lie. That one was taken again is noted behind it on the same topic, so whoever reads back knows it in time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from headwater_cloud.outputs import SOURCE, revived
from headwater_shared import records
from headwater_shared.bus import Bus, Record, Stored
from headwater_shared.identity import stable_id
from headwater_shared.topics import DEAD_LETTERS

LATE = "late"
REPLAYED = "dead-letters-replayed"
"""The kind of a note: its body is a JSON list of the numbers of letters."""

_AT_ONCE = 500
"""Letters that are read, or put on the bus, together."""


class Letter(msgspec.Struct, frozen=True):
    """One dead letter; its number is its offset on `hw-dead-letters`."""

    number: int
    replayed: bool
    stored: Stored

    @property
    def reason(self) -> str:
        return self.stored.headers.get("reason", "")

    @property
    def kind(self) -> str:
        """What it was: frame, anomaly, ..."""
        return self.stored.headers.get("was", "").removeprefix(records.CE_TYPE)


def back(bus: Bus) -> Iterator[Letter]:
    """Yield the letters, the newest first."""
    topic = DEAD_LETTERS.name
    end = bus.ends(topic).get(0, 0)
    oldest = bus.read(topic, {0: 0}, 1) if end else []
    replayed: set[int] = set()
    while oldest and end > oldest[0].offset:
        begin = max(end - _AT_ONCE, oldest[0].offset)
        found = bus.read(topic, {0: begin}, end - begin)
        for stored in reversed([one for one in found if one.offset < end]):
            if records.kind_of(stored.headers) == REPLAYED:
                replayed.update(msgspec.json.decode(stored.body, type=list[int]))
            else:
                yield Letter(stored.offset, stored.offset in replayed, stored)
        end = begin


def is_of(letter: Letter, reason: str) -> bool:
    """Tell whether a letter is of a reason; `*` and `?` stand for any text."""
    return fnmatchcase(letter.reason, reason)


def chosen(bus: Bus, numbers: Collection[int], reason: str = "*") -> list[Letter]:
    """Return the letters of these numbers, or those of a reason that were not taken again; the oldest first."""
    found = []
    for letter in back(bus):
        if (letter.number in numbers or not (numbers or letter.replayed)) and is_of(letter, reason):
            found.append(letter)
        if numbers and letter.number <= min(numbers):
            break
    return found[::-1]


def replay(bus: Bus, letters: Sequence[Letter]) -> list[Letter]:
    """Put letters on the topics that they came from again, and note it. Returns those that can never be: late parts.

    A kill between the two puts them there once more; rows are idempotent (R1), so nothing counts twice.

    Raises:
        BusUnavailable: do the same again.
    """
    for at in range(0, len(letters), _AT_ONCE):
        some = letters[at : at + _AT_ONCE]
        again = [(letter, record) for letter in some if (record := revived(letter.stored)) is not None]
        bus.append([record for _, record in again])
        if again:
            bus.append([_note([letter for letter, _ in again])])
    return [letter for letter in letters if revived(letter.stored) is None]


def _note(letters: Sequence[Letter]) -> Record:
    body = msgspec.json.encode([letter.number for letter in letters])
    newest = max(letter.stored.time_us for letter in letters)
    headers = records.headers(REPLAYED, stable_id(REPLAYED, body.decode()), SOURCE, newest)
    headers["content-type"] = "application/json"
    return Record(DEAD_LETTERS.name, 0, REPLAYED, headers, body)


def older(bus: Bus, time_us: int) -> list[Letter]:
    """Return the letters that the bus took before a time, the oldest first."""
    return [letter for letter in back(bus) if letter.stored.time_us < time_us][::-1]
