"""What the agent does as its disk fills: it makes room, and where there is none left it holds back (R17, R18, R22).

| there is | it does |
| --- | --- |
| room | gives free pages of the file back to the disk |
| more than the high mark | lets fine windows go that nobody was given and coarser ones hold; shrinks the dedupe horizon |
| more than the quota, or less free than the floor | holds back: takes nothing in, goes on making room |
| a full disk | gives the ballast up, so that it can go on making room, and holds back until it has it again |

Each of these is told once, when it begins and when it is over. All of it runs on the agent's loop but for the looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from headwater_edge.ballast import Ballast
from headwater_edge.coalesce import Targets, targets
from headwater_edge.coalescing import Coalescing, Found
from headwater_edge.commit import Writer
from headwater_edge.disk_settings import DiskSettings, disk_limits
from headwater_edge.events import Event
from headwater_edge.forward import Forward
from headwater_edge.keeping import Keeping
from headwater_edge.space import Gauge, Space, fitting, is_high, lacking, why_hold
from headwater_edge.state import State
from headwater_edge.store import PAGE_SIZE, Rewrite
from headwater_edge.ungiven import Span
from headwater_shared.logs import get_logger

log = get_logger()

FULL = "the disk is full"
MORE_QUOTA = "see that the cloud side takes what waits, or raise edge.disk.quota"
_SLACK = 1_000_000
"""Bytes of free pages that stay in the file, or a sixteenth of it: what comes next needs them."""
_PAGES = 2_000
"""Free pages that go back at once: a commit of two MB at most."""
_HALVINGS = 4
"""The dedupe horizon shrinks to a sixteenth at most."""
_EACH_S = 5
"""Looks, of which there is one a second, between two halvings."""
_CALM_S = 60
"""Looks without pressure before the horizon grows again by one doubling."""
_PICTURES_S = 15
"""Looks between two pairs of snapshots while the agent holds back ..."""
_TICKS_S = 30
"""... and between two ticks, so that time passes for what waits for time: journal rows within the horizon, windows."""


class OwnTick(NamedTuple):
    """A tick that pressure asks for."""

    events: Sequence[Event]
    rewrites: Sequence[Rewrite]


class _Look(NamedTuple):
    space: Space
    has_ballast: bool
    found: Found | None


class Pressure:
    """One agent's. `hold(why)` is called when the agent begins to hold back or goes on ("")."""

    def __init__(
        self,
        path: Path,
        settings: DiskSettings,
        ballast: Ballast,
        levels: Sequence[str],
        writer: Writer,
        forward: Forward,
        keeping: Keeping,
        hold: Callable[[str], None],
    ) -> None:
        self._path = path
        self._asked = self._limits = disk_limits(settings)
        self._gauge = Gauge(path, ballast)
        self._coalescing = Coalescing(path, targets(levels))
        self._writer = writer
        self._forward = forward
        self._ungiven = forward.ungiven
        self._keeping = keeping
        self._hold = hold
        self._full = ballast.given_up
        """The ballast was given up, and is not there again."""
        self._has_ballast = True
        self._looking: asyncio.Future[_Look] | None = None
        self._found: Found | None = None
        self._committing = self._froze = False
        self._closed = False
        self._targets: list[Targets] | None = None
        """Of other settings, until the next look takes them up."""
        self._halvings = self._looks = self._calm = 0
        self._pictured_at = -_PICTURES_S
        self._wants_tick = False
        self._second = False
        """The first of a pair of snapshots is there, and a tick after it."""
        self.holding = ""
        """Why nothing is taken in."""
        self.high = False
        """Whether room is made."""
        self.space: Space | None = None
        self.ballasts_given_up = 0

    @property
    def quota(self) -> int:
        """Bytes; more than was asked for where the state needs more."""
        return self._limits.quota

    @property
    def asked_quota(self) -> int:
        return self._asked.quota

    def horizon_us(self, wanted_us: int) -> int:
        """Return the dedupe horizon as it is now, of the one that the settings ask for."""
        return wanted_us >> self._halvings

    @property
    def horizon_shrunk(self) -> int:
        """To which part of what the settings ask for: 1, 2, 4, ..."""
        return 1 << self._halvings

    @property
    def hint(self) -> str:
        """What a person can do about what it is short of: by the quota if that is it, else by the disk."""
        if "quota" in self.holding or not self.holding:
            return MORE_QUOTA
        more = lacking(self.space, self._limits) if self.space and self._full else 0
        return (
            f"free space on the disk, {more:,} bytes if nothing more can go"
            if more
            else "free space on the disk"
        )

    @property
    def lacks_ballast(self) -> bool:
        """Whether there is no ballast, and it was not needed either."""
        return not self._has_ballast and not self._full

    def look(self) -> None:
        """Measure, and search for what may go, beside the loop; what follows is done when that is known."""
        if self._looking is not None or self._closed:
            return
        spans: list[Span] = []
        if self.high and self._found is None:
            spans = self._ungiven.freeze()
            self._froze = bool(spans)
        loop = asyncio.get_running_loop()
        self._looking = loop.run_in_executor(None, self._measured, spans, self._keeping.snapshot_bytes)
        self._looking.add_done_callback(self._looked)

    def follow(self, settings: DiskSettings, levels: Sequence[str]) -> None:
        """Go by other settings from the next look on, which is taken soon: they may let the agent go on."""
        self._asked = self._limits = disk_limits(settings)
        self._targets = targets(levels)
        self.look()

    def _thaw(self) -> None:
        self._froze = False
        self._ungiven.thaw()

    def _measured(self, spans: Sequence[Span], snapshot: int) -> _Look:
        if self._targets is not None:
            self._coalescing.follow(self._targets)
            self._targets = None
        space = self._gauge.look(snapshot)
        has_ballast = self._gauge.take_ballast(space, self._limits)
        return _Look(space, has_ballast, self._coalescing.find(spans) if spans else None)

    def _looked(self, looking: asyncio.Future[_Look]) -> None:
        self._looking = None
        if self._closed or looking.cancelled():
            return
        error = looking.exception()
        if error is not None:
            self._writer.fail(error)
            return
        space, has_ballast, found = looking.result()
        self.space = space
        self._looks += 1
        self._fit(space.snapshot)
        if found is not None:
            self._found = found
        elif self._froze:
            self._thaw()
        self._ballast(has_ballast)
        self._mark(space)
        self._shrink()
        self._decide(space)
        slack = max(_SLACK, space.used // 16) if has_ballast and not self.holding else PAGE_SIZE
        if space.unused > slack and not self._writer.holding:
            self._writer.give_back(min(_PAGES, (space.unused - slack) // PAGE_SIZE + 1))
        self._hold(self.holding)

    def _fit(self, snapshot: int) -> None:
        before, self._limits = self._limits, fitting(self._asked, snapshot)
        if self._limits.quota > self._asked.quota >= before.quota:
            log.warning(
                "edge.disk.quota is less than the agent's state needs; it takes more",
                quota=self._asked.quota,
                needed=self._limits.quota,
                hint="raise edge.disk.quota, or lower edge.max_series",
            )

    def _ballast(self, there: bool) -> None:
        if there:
            self._full = False
        elif self._has_ballast and not self._full:
            log.warning(
                "the disk has no room for the ballast",
                file=str(self._path),
                hint="free space: without it a full disk can only be mended from outside",
            )
        self._has_ballast = there

    def _mark(self, space: Space) -> None:
        was, self.high = self.high, is_high(space, self._limits, high=self.high)
        if self.high and not was:
            log.warning(
                "the disk quota is nearly reached: fine windows are coalesced, and the dedupe horizon shrinks",
                taken=space.taken,
                quota=self._limits.quota,
                hint=MORE_QUOTA,
            )
        if was and not self.high:
            log.info("there is room in the disk quota again", taken=space.taken, quota=self._limits.quota)

    def _shrink(self) -> None:
        self._calm = 0 if self.high else self._calm + 1
        if self.high and self._halvings < _HALVINGS and self._looks % _EACH_S == 0:
            self._halvings += 1
        elif self._halvings and self._calm >= _CALM_S:
            self._calm, self._halvings = 0, self._halvings - 1
        else:
            return
        log.warning(
            "the dedupe horizon has another length: so far back resent readings are recognised exactly",
            share=f"1/{self.horizon_shrunk} of edge.windows.horizon",
            hint="older ones become dead letters 'beyond-horizon'; raise edge.disk.quota if that happens",
        )

    def _decide(self, space: Space) -> None:
        """Hold back, or go on."""
        why = self._writer.holding or (FULL if self._full else "")
        why = why or why_hold(space, self._limits, holding=bool(self.holding))
        before, self.holding = self.holding, why
        if why and why != before:
            log.error(
                "holding back",
                why=why,
                file=str(self._path),
                taken=space.taken,
                free=space.free,
                hint=self.hint + "; nothing is lost, and it goes on by itself",
            )
        elif why and self._looks % _TICKS_S == 0:
            self._wants_tick = not self._writer.holding
        elif before and not why:
            log.info("going on: there is space again", taken=space.taken, free=space.free)

    def full(self) -> None:
        """The writer found no room."""
        self._full = True
        self.ballasts_given_up += not self._writer.holding
        if self.holding != FULL:
            self.holding = FULL
            self._hold(FULL)

    # What it asks of the agent, between two ticks.

    def own_tick(self) -> OwnTick | None:
        """Return a tick that makes room, if there is one to be made now."""
        if self._found is not None and not self._committing:
            self._committing = True
            log.info(
                "coalesced",
                to=self._found.event.level,
                parts=self._found.event.parts,
                windows=self._found.event.windows,
            )
            return OwnTick([self._found.event], self._found.rewrites)
        if self._wants_tick:
            self._wants_tick = False
            return OwnTick([], [])
        return None

    def committed(self) -> None:
        """A tick is in the file."""
        if self._committing:
            self._committing, self._found = False, None
            self._thaw()
            self.look()
        elif self._full:
            self.look()

    def picture_is_due(self, state: State) -> bool:
        """Tell whether to take a snapshot although it is not due: rows go only when two are after them (R12), and while the
        agent holds back, or has drained and little comes in, no other comes. Of its last tick there may be one already; then
        another tick is asked for first.
        """
        keeping, outbox, tick = self._keeping, self._forward.outbox, state.tick
        lets_go = keeping.is_outweighed(outbox.kept_bytes)
        if self.holding and not lets_go:
            horizon_us = self.horizon_us(state.settings.horizon_us)
            lets_go = outbox.waits_for_snapshot or (
                not self._full and keeping.waits_for_snapshot(state.age_us, horizon_us)
            )
        if not lets_go or self._writer.holding or keeping.keep_from_tick >= tick - 1:
            self._second = False
            return False
        if keeping.snapshots[:1] == [tick]:
            self._wants_tick = self._second = True
            return False
        if not self._second:
            if self._looks < self._pictured_at + _PICTURES_S:
                return False
            self._pictured_at = self._looks
        self._second = False
        return keeping.begin_picture()

    def close(self) -> None:
        self._closed = True
        if self._looking is None:
            self._gauge.close()
            self._coalescing.close()
