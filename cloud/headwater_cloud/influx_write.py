"""Points into the store: what it answers is sorted into done, split in halves, wait, and never.

A request that the store refuses for a line of it is cut in halves until the line is found: this one is a dead letter, all others are
written. Points are whole rows, so what was taken before a failure is written over by the same.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol

import msgspec

from headwater_cloud.influx_file import Dead, Unmade
from headwater_shared.crash import reached
from headwater_shared.errors import TryAgain

_FIRST_S, _LONGEST_S = 0.5, 60.0
_LONGEST_ASKED_S = 600.0
"""For so long at most a store is left alone, whatever it asks for."""
_TAKEN = 204
"""What every version says to a write of which all points are taken, by /write and by /api/v2/write; others say 200 to anything."""
_UNSURE = {0, 500, 502, 504}
"""Nothing came, or the store, or something between, gave up waiting: InfluxDB 1.x goes on with a write that it calls timed out."""
_MOST, _FEWEST = 1_000_000, 50
"""Lines of a request, where nothing else limits them, and where a line is so slow that larger ones get no answer in time."""
_SHOWN = 300
_BEYOND = re.compile(
    r"points beyond retention policy dropped=(?P<old>\d+)|dropped (?P<new>\d+) points outside retention policy"
)
"""As InfluxDB said it up to 1.8 and 2.6, and as newer ones do."""


class Answer(NamedTuple):
    """What a store said; status 0: nothing came, and `text` says why."""

    status: int
    text: str = ""
    after_s: float = 0.0
    """It wants to be left alone for so long."""
    sent: bool = True
    """False: there was no connection, so no part of it can be under way."""


class Transport(Protocol):
    """The way to one store. Calls do not overlap, and raise nothing of the network."""

    def send(self, database: str, lines: bytes, *, nanoseconds: bool) -> Answer:
        """Write lines whose times are microseconds, or nanoseconds."""

    def make(self, database: str, keep_us: int | None) -> Answer:
        """Make a database, or bucket, that is not there; `keep_us`: how long it keeps points, None: for ever."""

    def missing(self, database: str) -> str:
        """Say how a person makes a database that the sink may not make."""

    def close(self) -> None: ...


class Points(NamedTuple):
    """Points of one database."""

    database: str
    keep_us: int | None
    nanoseconds: bool
    lines: bytes
    size: int
    key_of: Callable[[int], str]
    """The key of a line, by its number."""


class Later(TryAgain):
    """The store does not take it now: the same is built anew, and tried again after so many seconds."""

    def __init__(self, message: str, *, hint: str = "", after_s: float, unsure: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s
        self.unsure = unsure
        """Nobody knows whether it has the points, or will have them in a while."""


class Verdict(Enum):
    """What an answer means for what was sent."""

    DONE = auto()
    SPLIT = auto()
    """A line of it is bad, or it is too long."""
    MAKE = auto()
    """The database is not there."""
    WAIT = auto()


@dataclass(slots=True)
class Counts:
    """What came of it since the process began."""

    points: int = 0
    requests: int = 0
    failed: int = 0
    """Requests that are tried again."""
    split: int = 0
    dead: int = 0
    beyond: int = 0
    """Points that were older than the store keeps them."""


def judge(answer: Answer) -> tuple[Verdict, str]:
    """Tell what an answer means, and what a person should do if it is not done."""
    status = answer.status
    if status == _TAKEN:
        return Verdict.DONE, ""
    if 200 <= status < 400:
        return (
            Verdict.WAIT,
            f"InfluxDB says {_TAKEN} to a write: a login page or a proxy stands between; see that [cloud.influx] url is InfluxDB's own address",
        )
    if status in {400, 422} and _says(answer.text):
        return (Verdict.DONE if _BEYOND.search(answer.text) else Verdict.SPLIT), ""
    if status == 413:
        return Verdict.SPLIT, ""
    if status == 404:
        return Verdict.MAKE, ""
    if status == 401:
        return (
            Verdict.WAIT,
            "it does not know who writes: look at user and password, or token, of [cloud.influx]",
        )
    if status == 403:
        return (
            Verdict.WAIT,
            "who writes may not: give the user, or token, of [cloud.influx] the right to write",
        )
    if status == 0:
        return Verdict.WAIT, "see that InfluxDB runs, and that [cloud.influx] url is its address"
    if "no space left" in answer.text:
        # The writer of its log keeps an error for ever: seen with 1.6, with 96 MB free again.
        return (
            Verdict.WAIT,
            "make space on the disk of InfluxDB, and start it again: 1.x goes on saying so until then",
        )
    return Verdict.WAIT, "look at InfluxDB's own log"


def _says(text: str) -> bool:
    """Whether a refusal is a store's own: one of something between, which knows no lines, is no reason to give them up."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and bool(found.keys() & {"error", "message"})


class Writer:
    """One request at a time.

    Args:
        chance: between 0 and 1, for waits that do not all end at once.
        took: is told the seconds of each request.
        missing: is told of a database that the store says is not there, before it is made.
    """

    def __init__(
        self,
        transport: Transport,
        bury: Callable[[list[Dead]], None],
        chance: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        took: Callable[[float], None] = lambda _: None,
        missing: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.counts = Counts()
        self._transport, self._bury, self._chance = transport, bury, chance
        self._monotonic, self._wall_us, self._took, self._missing = monotonic, wall_us, took, missing
        self._wait_s = 0.0
        self._most = _MOST
        """Lines of one request: half of what got no answer, an eighth more after each that got one."""
        self._dead: list[Dead] = []

    def write(self, points: Points) -> list[str]:
        """Write points; what the store refuses for ever is a dead letter, and durable, on return. Returns the keys of these.

        Raises:
            Later: not now.
        """
        self._dead = []
        try:
            self._send(points, points.lines, 0, points.size)
        finally:
            if self._dead:
                self._bury(self._dead)
                self.counts.dead += len(self._dead)
        return [one.key for one in self._dead]

    def set_aside(self, unmade: Sequence[Unmade]) -> list[str]:
        """Make dead letters of rows of which no point could be made; durable on return. Returns their keys."""
        if unmade:
            self._bury([Dead(one.key, one.database, b"", 0, one.why, self._wall_us()) for one in unmade])
            self.counts.dead += len(unmade)
        return [one.key for one in unmade]

    def _send(self, points: Points, lines: bytes, first: int, count: int) -> None:
        if count > self._most:
            self._halves(points, lines, first, count)
            return
        answer = self._tried(points, lines)
        verdict, hint = judge(answer)
        if verdict is Verdict.MAKE:
            if points.database in answer.text:  # its own words, and not those of something between
                self._missing(points.database)
            made = self._transport.make(points.database, points.keep_us)
            answer = self._tried(points, lines)
            verdict, hint = judge(answer)
            if verdict is Verdict.MAKE:
                if made.text and made.status not in {200, 201, 204}:
                    answer = answer._replace(text=f"{answer.text}; to make it: {_short(made)}")
                verdict, hint = Verdict.WAIT, self._transport.missing(points.database)
        if verdict is Verdict.WAIT:
            self.counts.failed += 1
            if answer.status == 0 and answer.sent:
                self._most = max(_FEWEST, count // 2)
            raise Later(
                f"the store did not take points into {points.database}: {_short(answer)}", hint=hint, after_s=self._after(answer.after_s),
                unsure=answer.sent and answer.status in _UNSURE,
            )  # fmt: skip
        self._wait_s = 0.0
        self._most = min(_MOST, self._most + self._most // 8)
        if verdict is Verdict.DONE:
            beyond = _BEYOND.search(answer.text)
            dropped = int(beyond["old"] or beyond["new"]) if beyond else 0
            self.counts.beyond += dropped
            self.counts.points += count - dropped
        elif count == 1:
            self._dead.append(
                Dead(
                    points.key_of(first),
                    points.database,
                    lines,
                    answer.status,
                    _short(answer),
                    self._wall_us(),
                )
            )
        else:
            self.counts.split += 1
            self._halves(points, lines, first, count)

    def _halves(self, points: Points, lines: bytes, first: int, count: int) -> None:
        rows = lines.splitlines(keepends=True)
        half = count // 2
        self._send(points, b"".join(rows[:half]), first, half)
        self._send(points, b"".join(rows[half:]), first + half, count - half)

    def _tried(self, points: Points, lines: bytes) -> Answer:
        self.counts.requests += 1
        begun = self._monotonic()
        reached("sink.send.before")
        answer = self._transport.send(points.database, lines, nanoseconds=points.nanoseconds)
        reached("sink.send.after")
        self._took(self._monotonic() - begun)
        return answer

    def _after(self, asked_s: float) -> float:
        """How long to wait: as long as it is asked for, else twice as long as before, and not all at once."""
        self._wait_s = min(_LONGEST_S, self._wait_s * 2 or _FIRST_S)
        if asked_s > 0:
            return min(asked_s, _LONGEST_ASKED_S) * (1 + self._chance() / 10)
        return self._wait_s * (0.5 + self._chance() / 2)


def _short(answer: Answer) -> str:
    text = " ".join(answer.text.split())
    if len(text) > _SHOWN:  # the reason stands at the end: unable to parse 'LINE': REASON
        text = f"{text[: _SHOWN // 3]} ... {text[-_SHOWN * 2 // 3 :]}"
    return f"{answer.status} {text}" if answer.status else text
