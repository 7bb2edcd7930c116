"""The rules of the settings reach the shards: each shard that goes by others gets them as a record, in its place in the log.

A crash in between, a shard taken over from a worker with older settings, a log that was begun anew: each is healed by looking again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from headwater_cloud.book import Book, Maintenance
from headwater_cloud.rule_records import rules_record
from headwater_cloud.shard import Shard
from headwater_shared import logs
from headwater_shared.bus import Bus
from headwater_shared.clock import Clock
from headwater_shared.crash import reached
from headwater_shared.errors import BusUnavailable
from headwater_shared.identity import SHARDS

log = logs.get_logger()

_LOOK_S = 1.0
_AGAIN_S = 30.0
"""What was put in and not read by then is put in again."""

_DEFAULT = Book()
"""What a shard goes by that has no rules: it need not be told."""


class RulesCopies:
    """What one process of the cloud side does for the rules, once a second; it keeps nothing that cannot be found again."""

    def __init__(
        self, bus: Bus, clock: Clock, book: Book, maintenance: Callable[[], tuple[Maintenance, ...]] = tuple
    ) -> None:
        """Begin.

        Args:
            book: the rules of the settings.
            maintenance: gives what people said of it, each time that it is looked.
        """
        self._bus, self._clock, self._maintenance = bus, clock, maintenance
        self._settings = book
        self._wanted = book
        self._plain: dict[int, tuple[Book, bytes]] = {}
        self._put: dict[int, tuple[bytes, float]] = {}
        """By shard: what was put in last, and when by monotonic time."""
        self._look_at = 0.0

    def follow(self, book: Book) -> None:
        """Go by the rules of other settings."""
        self._settings = book
        self._look_at = 0.0

    def look(self, shards: Mapping[int, Shard], held: Collection[int], now_s: float) -> None:
        """Do a step if one is due, by monotonic time."""
        if now_s < self._look_at:
            return
        self._look_at = now_s + _LOOK_S
        try:
            self.step(shards, held, now_s)
        except BusUnavailable as error:
            log.warning("the rules wait", error=error)

    def step(
        self, shards: Mapping[int, Shard], held: Collection[int] = range(SHARDS), now_s: float = 0.0
    ) -> int:
        """Put the rules into the shards that go by others. Returns how many.

        Args:
            shards: the operators' state, which is only read.
            held: the shards that this process works on now; one of them that is not in `shards` has no rules yet.

        Raises:
            BusUnavailable: call again.
        """
        self._wanted = msgspec.structs.replace(self._settings, maintenance=self._maintenance())
        wanted, made = _plain(self._wanted), dict[int, Book]()
        records = []
        for number in held:
            has = shards[number].book if number in shards else _DEFAULT
            if self._plain_of(has) == wanted:
                self._put.pop(number, None)
                continue
            put, at_s = self._put.get(number, (b"", 0.0))
            if put == wanted and now_s < at_s + _AGAIN_S:
                continue
            if id(has) not in made:
                made[id(has)] = self._after(has)
            records.append(rules_record(made[id(has)], number))
            self._put[number] = wanted, now_s
        if records:
            self._bus.append(records)
            reached("cloud.rules")
            log.info("rules for shards", shards=len(records), patterns=len(self._wanted.patterns))
        return len(records)

    def _after(self, has: Book) -> Book:
        """Return the rules as a shard gets them: later than what it has; a pattern whose text is the same has been in since it was put in."""
        time_us = max(self._clock.now().wall_us, has.time_us + 1)
        since = {msgspec.structs.replace(one, since_us=0): one.since_us for one in has.patterns}
        patterns = tuple(
            msgspec.structs.replace(one, since_us=since.get(one, time_us)) for one in self._wanted.patterns
        )
        return msgspec.structs.replace(self._wanted, patterns=patterns, time_us=time_us)

    def _plain_of(self, book: Book) -> bytes:
        known = self._plain.get(id(book))
        if known is None or known[0] is not book:
            if len(self._plain) > SHARDS:
                self._plain.clear()
            known = self._plain[id(book)] = book, _plain(book)
        return known[1]


def _plain(book: Book) -> bytes:
    """Return what rules say, whenever they were put in."""
    patterns = tuple(msgspec.structs.replace(one, since_us=0) for one in book.patterns)
    # What is as the default is left out only if it is the very same object.
    alerts = _DEFAULT.alerts if book.alerts == _DEFAULT.alerts else book.alerts
    plain = msgspec.structs.replace(book, patterns=patterns, alerts=alerts, time_us=0)
    return msgspec.json.encode(plain, order="deterministic")
