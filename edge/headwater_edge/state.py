"""The agent's state: all that a step changes, and all that a snapshot holds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.commands import Commands
from headwater_edge.coverage import Coverage
from headwater_edge.detection.detection import Detection
from headwater_edge.detectors import Detectors
from headwater_edge.duplicates import Transport
from headwater_edge.event_time import Waiting
from headwater_edge.evicted import Former
from headwater_edge.idempotency import Idempotency
from headwater_edge.levels import Levels
from headwater_edge.meaning import Meaning
from headwater_edge.orders import Orders
from headwater_edge.presence import Presence
from headwater_edge.recent import NEVER
from headwater_edge.sessions import Sessions
from headwater_edge.settings import StepSettings
from headwater_edge.spreading import Spreading
from headwater_edge.watermarks import Watermarks, elapsed_us
from headwater_shared.clock import Now
from headwater_shared.identity import device_of, shard_of, site_of

Ints = NDArray[np.int64]

_SOONEST_US, _LATEST_US = 1_000_000, 600_000_000
"""Bounds of the time between two puttings out of coverage; so much longer than the horizon journal rows may stay."""


class Counters(msgspec.Struct):
    """What became of what arrived, since the file was made."""

    messages: int = 0
    readings: int = 0
    accepted: int = 0
    by_transport: int = 0
    """Readings of messages that repeated the last use of their packet id, and of requests whose idempotency key was known."""
    by_meaning: int = 0
    dead: int = 0
    by_horizon: int = 0
    """Readings that repeated one which had left memory, but not the journal."""
    clamped: int = 0
    """Readings whose stamp lay in the future."""
    restamped: int = 0
    """Readings without a time that were stamped after the clock was set."""
    held: int = 0
    """Readings without a time that were stamped by a clock that was not believed."""
    set_back: int = 0
    """Corrections of our clock backwards."""
    beyond_horizon: int = 0
    """Readings that could not be told from a resend, and became dead letters."""
    parts: int = 0
    revisions: int = 0
    late: int = 0
    anomalies: int = 0
    coalesced: int = 0
    """Parts that were let go before anyone was given them, for coarser ones hold their readings (R22)."""


class State:
    """One agent's state. Series are numbered in the order of first sight; those that were let go leave their numbers to others."""

    def __init__(self, settings: StepSettings) -> None:
        self.settings = settings
        self.tick = 0
        self.epoch = 0
        self.now: Now | None = None
        self.names: list[str] = []
        """Of the series by number; empty where the series was let go. One list for ever: others look into it."""
        self.made = 0
        """How many series there ever were."""
        self.device_numbers: dict[str, int] = {}
        self.shards_used: list[int] = []
        self.device: Ints = np.zeros(0, np.int64)
        """Device of each series."""
        self.shard: Ints = np.zeros(0, np.int64)
        """Shard of the site of each series."""
        self.device_shard: Ints = np.zeros(0, np.int64)
        self.spreading = Spreading(settings.spread)
        """Where the rows of series and devices go whose sites are spread over more shards than theirs (R25)."""
        self.last_sent: Ints = np.zeros(0, np.int64)
        """Largest time as sent of each series."""
        self.serial: Ints = np.zeros(0, np.int64)
        """The how-manieth series of this file each is, which no other will be; -1: its number is free."""
        self.heard_us: Ints = np.zeros(0, np.int64)
        """`age_us` at which a reading of each series arrived last, of whatever became of it."""
        self.coarse = np.zeros(0, np.bool_)
        """Series whose clock was found coarser than their rate; said once."""
        self.seq: dict[int, int] = {}
        """Last seq of this epoch by shard."""
        self.previous: tuple[int, dict[int, int]] | None = None
        """The epoch before, and its last seqs."""
        self.sessions = Sessions()
        self.presence = Presence(settings.presence)
        self.transport = Transport(self.sessions.of_brokers)
        self.waiting = Waiting()
        self.coverage = Coverage()
        """Of all timed readings that were ever counted."""
        self.age_us = 0
        """Microseconds that ticks have seen pass: what the dedupe horizon is measured by."""
        self.frozen_us = 0
        """`age_us` when coverage was last put out."""
        self.idempotency = Idempotency()
        self.counters = Counters()
        self.levels = _levels(settings)
        self.watermarks = Watermarks(settings.lateness_us, settings.idle_us)
        self.meaning = Meaning(settings.metrics)
        self.levels.fine.meaning = self.meaning
        self.detectors = Detectors(settings.rules, settings.more_rules)
        self.detection = Detection(settings.detect)
        self.anew: list[str] = []
        """Rules of detection that learn anew since this state was read from a snapshot, which had columns of other detectors."""
        self.commands = Commands()
        self.orders = Orders()

    def configure(self, settings: StepSettings, now: Now) -> None:
        """Take up other settings: watermarks stay, and so does what is broken by a rule of the same name.

        The panes of windows that move have been put out (R12).
        """
        former, before = self.levels, self.levels.fine
        if moves_windows(self.settings, settings):
            self.levels = _levels(settings)
            self.levels.fine.recent, self.levels.fine.late = before.recent, before.late
        if (
            settings.by_meaning and not self.settings.by_meaning
        ):  # until now nobody looked at what was sent before
            known = slice(0, before.recent.size)
            np.maximum.at(self.last_sent, before.recent.series[known], before.recent.sent[known])
        if settings.spread != self.settings.spread:
            self.spread(settings)
        self.presence.configure(settings.presence)
        self.watermarks.lateness_us, self.watermarks.idle_us = settings.lateness_us, settings.idle_us
        self.detectors = self.detectors.followed_by(settings.rules, settings.more_rules, self.names)
        self.detection = self.detection.followed_by(settings.detect, self.names, self.device)
        self.meaning = self.meaning.followed_by(settings.metrics, self.names)
        self.levels.fine.meaning = self.meaning
        self.settings = settings
        self.room(now)
        self.detectors.watch(self.watermarks.newest[self.device], now.mono_us)
        if self.levels is not former:
            self.levels.follow(former)

    def spread(self, settings: StepSettings) -> None:
        """Take up a map of shards for all series and devices that there are."""
        self.spreading = Spreading(settings.spread, self.names, self.device_numbers)

    def add_series(
        self, names: list[str], now: Now, numbers: Sequence[int] = (), returned: Sequence[Former] = ()
    ) -> None:
        """Take up new series.

        Args:
            numbers: theirs; by default the next ones. Others were those of series that were let go.
            returned: what is known of those that had been let go themselves.
        """
        if not names:
            return
        known = len(self.names)
        numbers = list(numbers) or list(range(known, known + len(names)))
        self.names += [""] * max(0, max(numbers) + 1 - known)
        for number, name in zip(numbers, names, strict=True):
            self.names[number] = name
            device = device_of(name)
            if device not in self.device_numbers:
                self.device_numbers[device] = len(self.device_numbers)
                self.device_shard = np.append(self.device_shard, shard_of(site_of(name)))
                self.spreading.add_device(device)
        for column, blank in _BLANK.items():
            grown = getattr(self, column)
            setattr(self, column, np.append(grown, np.full(len(self.names) - known, blank, grown.dtype)))
        self.device[numbers] = [self.device_numbers[device_of(name)] for name in names]
        self.shard[numbers] = [shard_of(site_of(name)) for name in names]
        self.spreading.take_up(numbers, names)
        self.serial[numbers] = self.made + np.arange(len(names))
        self.heard_us[numbers] = self.age_us
        self.made += len(names)
        self.room(now)
        again = [number for number in numbers if number < known]
        if again:
            self.levels.take_up(again, [self.names[number] for number in again])
            self.meaning.take_up(again, self.names)
            self.detectors.take_up(again, [self.names[number] for number in again])
            self.detection.take_up(again, self.names, self.device)
        for former in returned:
            number = numbers[names.index(former.name)]
            self.serial[number] = former.serial
            if former.heard:
                self.coverage.put(number, former.heard)
                self.last_sent[number] = former.heard[-1]

    def let_go(self, series: Ints) -> tuple[list[Former], list[str]]:
        """Forget series, of which every window is out: all that is kept by series, here and nowhere else.

        Returns:
            what outlives them, and the devices that went with the last of theirs.
        """
        names = self.names
        formers = [Former(names[n], int(self.serial[n]), self.coverage.of(n)) for n in series.tolist()]
        self.detectors.let_go(series)
        self.levels.let_go(series)
        self.meaning.let_go(series)
        self.detection.let_go(series)
        for number in series.tolist():
            self.coverage.put(number, ())
            names[number] = ""
        for column, blank in _BLANK.items():
            getattr(self, column)[series] = blank
        kept = np.bincount(self.device[self.serial >= 0], minlength=len(self.device_numbers)) > 0
        gone = [device for device, stays in zip(self.device_numbers, kept.tolist(), strict=True) if not stays]
        if gone:
            self._keep_devices(kept)
            self.detection.renumber(self.device)
        return formers, gone

    def _keep_devices(self, kept: NDArray[np.bool_]) -> None:
        """Forget the other devices; those that stay are numbered anew, in the same order."""
        devices = [device for device, stays in zip(self.device_numbers, kept.tolist(), strict=True) if stays]
        self.device_numbers = {device: number for number, device in enumerate(devices)}
        self.device = np.maximum(np.cumsum(kept) - 1, 0)[self.device]
        self.device_shard = self.device_shard[kept]
        self.spreading.keep_devices(kept)
        self.watermarks.let_go(kept)
        self.presence.let_go(kept, self.device_numbers)

    def room(self, now: Now) -> None:
        """Give every part of the state room for all series and devices."""
        self.levels.grow(self.names)
        self.coverage.grow(len(self.names))
        self.meaning.grow(self.names)
        self.detectors.grow(self.names)
        self.detection.grow(self.names, self.device)
        self.watermarks.grow(len(self.device_numbers), now)
        self.presence.grow(self.device_numbers, now)

    def grow_older(self, now: Now) -> bool:
        """End a tick: time has passed. Tell whether coverage is to be put out, once in a share of the dedupe horizon (R4)."""
        if self.now is not None:
            self.age_us += elapsed_us(self.now, now)
        self.now = now
        if self.age_us - self.frozen_us < min(max(self.settings.horizon_us // 36, _SOONEST_US), _LATEST_US):
            return False
        self.frozen_us = self.age_us
        return True

    def turns(self, series: NDArray[np.int32], value: NDArray[np.float64]) -> bool:
        """Tell whether some reading, as decoded, may begin or end an anomaly: a cheap look that may end a tick early."""
        if not len(value) or int(series.max()) >= len(self.names):
            return False  # of a series' first readings the tick will see
        return self.detectors.turns(series, self.meaning.of(series, value))

    def begun_us(self) -> int:
        """Return a time that no window of now begins after: the clock's, as far ahead as stamps may be, or a device's own."""
        newest = self.watermarks.newest[: len(self.device_numbers)]
        ahead = min(self.settings.future_us, _LATEST_US)
        now = self.now.wall_us + ahead if self.now is not None else NEVER
        return max(now, int(newest.max(initial=NEVER)))

    def is_due(self, now: Now) -> bool:
        """Whether time alone closes a window, makes a will due or a series missing, ends a command, or may let go of readings that
        wait for a clock.
        """
        if len(self.waiting) or self.commands.is_due(now) or self.detectors.is_due(now.mono_us):
            return True
        marks = self.series_watermark(self.watermarks.advanced(now))
        if self.detection.is_due(marks[: len(self.names)]):
            return True
        return (
            self.levels.is_due(marks) or self.sessions.wills.is_due(now.mono_us) or self.presence.is_due(now)
        )

    def series_watermark(self, marks: Ints) -> Ints:
        """Spread marks by device over the room for series; unused room is never due."""
        spread = np.full(self.levels.room, NEVER)
        if len(marks):  # there are devices
            spread[: len(self.device)] = marks[self.device]
        return spread


_BLANK = {"device": 0, "shard": 0, "last_sent": NEVER, "coarse": False, "serial": -1, "heard_us": 0}
"""Columns by series, and what they hold of a number that is free."""

_LEAVE_WINDOWS = {
    "spread", "rules", "more_rules", "detect", "acts", "presence", "idle_us", "horizon_us", "future_us", "clock_wait_us", "by_meaning",
}  # fmt: skip


def moves_windows(before: StepSettings, after: StepSettings) -> bool:
    """Tell whether other settings move windows, or change what they hold: all do that are not known to leave them as they are."""
    return any(
        getattr(before, name) != getattr(after, name)
        for name in StepSettings.__struct_fields__
        if name not in _LEAVE_WINDOWS
    )


def _levels(settings: StepSettings) -> Levels:
    return Levels(settings.levels, settings.held_us, settings.lateness_us, settings.some_levels)
