"""The way of a reading through the agent, in one place.

    source ─ burst ▶ decode ▶ gather ─ tick ▶ step ─ output ▶ writer ─ commit ▶ acknowledge, command, forward ▶ bus
                                               └ sessions ▶ duplicates ▶ levels ▶ rules ▶ watermarks ▶ detectors ▶ act

Everything but the writer's and the forwarder's threads runs on one event loop. At most one tick is uncommitted; the
next one gathers meanwhile, and is stepped when the commit returns. Only then are messages acknowledged (R5).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from headwater_edge import snapshot
from headwater_edge.arrivals import excluding
from headwater_edge.awaited import Awaited, result
from headwater_edge.ballast import for_start
from headwater_edge.commit import Job, Writer
from headwater_edge.courier import Courier
from headwater_edge.decode import Births, DeadLetter, Decoded, decoder
from headwater_edge.detection.bearable import bearable
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.events import Event, Flush, Settings, Start
from headwater_edge.evicting import Evicting
from headwater_edge.forward import Forward
from headwater_edge.gather import Gather, beyond_letters
from headwater_edge.horizon import Found
from headwater_edge.idempotency import refused_messages
from headwater_edge.keeping import Keeping
from headwater_edge.letter_book import LetterBook
from headwater_edge.opening import open_state
from headwater_edge.order_source import OrderSource
from headwater_edge.pressure import Pressure
from headwater_edge.provisional import Provisional
from headwater_edge.put_out import PutOut
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.source import Burst, Source, ask
from headwater_edge.sources import Sources
from headwater_edge.step import completeness, step
from headwater_edge.store import Rewrite
from headwater_edge.tick import Tick, quiet_tick
from headwater_edge.ticker import Ticker, mono_us
from headwater_edge.topics import SeriesIndex
from headwater_edge.traced import Traced
from headwater_edge.wills import WillSource
from headwater_shared.bus import Bus
from headwater_shared.clock import Clock
from headwater_shared.crash import reached
from headwater_shared.identity import new_epoch
from headwater_shared.logs import get_logger
from headwater_shared.settings import duration, size

log = get_logger()

_COMPLETE_US, _SOON_S, _LOOK_S, _IDLE_COPY_S = 1_000_000, 0.01, 1.0, 0.02
_SOME = 4  # one sender in so many that waits for us is enough to end a tick early; fewer wait like all others


class Agent:
    """One agent: the file, the state, the loop's side of everything."""

    def __init__(
        self,
        settings: EdgeSettings,
        path: Path,
        clock: Clock,
        open_bus: Callable[[], Bus],
        version: str = "0",
        *,
        adopt: bool = False,
        seal: Seal = NO_KEY,
    ) -> None:
        """Open the file and bring the state back; nothing is read from a source before `start`.

        Raises:
            StateError, TryAgain, SettingsError: see `opening.open_state`.
        """
        self._settings = settings
        self._step_settings = step_settings(settings)
        self.index = SeriesIndex([], settings.max_series, settings.new_series_per_hour)
        self.decode = decoder(settings, self.index, path.parent)
        self.path = path
        self.clock = clock
        self.version = version
        ballast, began = for_start(path), time.monotonic_ns()
        opened = open_state(path, self._step_settings, clock.now(), adopt=adopt, seal=seal)
        resumed, self._lock, connection = opened.resumed, opened.lock, opened.connection
        self.decode.learn(opened.births)
        self.set_aside, self._events = opened.set_aside, opened.events
        """What became of a damaged file before this one; and what the first tick must say of it."""
        self.state = resumed.state
        self.state.detection.watch(time.perf_counter_ns)
        self.keeping = Keeping(connection, resumed, (time.monotonic_ns() - began) // 1000)
        self.horizon = opened.horizon
        self.letters = LetterBook(size(settings.dead_letters), *opened.letters)
        self._looking = False  # up readings in the journal: meanwhile none of its rows may go
        self.index.know(self.state.names)
        self.index.add_rates()
        self.evicting = Evicting(settings, self.index, self.decode, self.state, self.horizon, self.keeping)
        self.ticker = Ticker(duration(settings.tick), settings.tick_readings)
        self._gather = Gather()
        self._under_way: list[Burst] = []
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self.sources = Sources(self._deliver, settings.max_unacknowledged)
        self.attach = self.sources.attach
        self._awaited = Awaited()
        self._completed_us = self.committed = 0
        self._traced = Traced(clock)
        self._writer = Writer(
            connection, path, self._in_loop(self._on_commit), self._in_loop(self._on_failure),
            self._in_loop(self._on_picture), self._in_loop(lambda: self.pressure.full()), ballast, seal,  # noqa: PLW0108 - it is made next
        )  # fmt: skip
        self._wills = self.attach(lambda deliver: WillSource(self.state.sessions.wills, clock, deliver))
        orders = self.attach(lambda deliver: OrderSource(self.state.orders, clock, deliver))
        self.forward = Forward(
            path, open_bus, settings.name, clock, self._writer.take_along,
            orders.reader(settings.name, self._in_loop(orders.take)), settings.forward,
        )  # fmt: skip
        self.pressure = Pressure(
            path, settings.disk, ballast, self._step_settings.levels, self._writer, self.forward,
            self.keeping, self._hold,
        )  # fmt: skip
        self.courier = Courier(self.state.commands, self.sources.command, clock)
        self.put_out = PutOut(settings, self._writer)
        self.provisional = Provisional(self.state, self.index, self.courier, self.put_out.alerts.provisional)
        self.failed: asyncio.Future[None]

    async def start(self) -> None:
        """Commit the new epoch; the open panes of the one before go out with it (R1, R6)."""
        self._loop = asyncio.get_running_loop()
        self.failed = self._loop.create_future()
        self._writer.start()
        body = msgspec.json.encode(bearable(self._step_settings, self.state.names)).decode()
        begin = Start(new_epoch(), self.version, announces=True)
        start = quiet_tick(self.clock.now(), begin, *self._events, Settings(body))
        start.new_series, start.numbers = self.index.take_fresh(), self.index.taken  # new rates of counters
        done = self._awaited.of_this()
        self._take(start, [])
        await result(done, self.failed)
        self.forward.keep_from_tick = self.keeping.keep_from_tick
        self.forward.start(self._in_loop(self._on_failure))
        self._idle_timer = self._loop.call_later(_LOOK_S, self._idle)

    @property
    def holding(self) -> str:
        """Why nothing is taken in, if that is so."""
        return self._writer.holding or self.pressure.holding

    async def flush(self) -> int:
        """Close every window; return the tick that did, once it is committed."""
        return await self.take_in([(self.events(Flush()), None)])

    def events(self, *events: Event) -> Burst:
        """Make a burst of events only."""
        return Burst(self.clock.now().wall_us, events=[(0, event) for event in events])

    async def take_in(self, bursts: Sequence[tuple[Burst, Decoded | None]]) -> int:
        """Take in what no source brought, and wait for its commit; return the tick."""
        done = self._awaited.of_next()
        for burst, decoded in bursts:
            self._gather.add(burst, decoded)
        self.ticker.ask_early()
        self._end_tick_if_over()
        return await result(done, self.failed)

    async def close(self) -> None:
        """Commit what has gathered, acknowledge it, and let go of the file; the sources are closed before."""
        self._idle_timer.cancel()
        self.courier.close()
        while not self.holding and (self._gather or self._busy):  # what is held back comes again
            if not self._busy:
                self._end_tick()
            await result(self._awaited.of_this(), self.failed, _LOOK_S)
        self._end_timer()
        await self._loop.run_in_executor(None, self._close_threads)

    def _close_threads(self) -> None:
        for part in (self.pressure, self.forward, self.horizon, self._writer):
            part.close()
        self._lock.release()

    # The loop's side: bursts in, ticks out.

    def _deliver(self, source: Source, burst: Burst) -> None:
        """Take in a burst: decode it, and end the tick if it is over."""
        decoded = self.decode.burst(burst) if burst.topics else None
        if decoded is not None and decoded.asks:
            ask(source, decoded.asks)
        if decoded is not None and decoded.dead and self.letters.full:
            decoded, turned_out = self.letters.refuse(burst, decoded)
            source.refuse(turned_out)
        self._gather.add(burst, decoded)
        self.ticker.began(mono_us())
        if self.holding:
            self.provisional.look(self._gather)
        if burst.urgent or (decoded is not None and self.state.turns(decoded.series, decoded.value)):
            self.ticker.ask_early()
        elif burst.waiting * _SOME >= burst.senders > 0:
            self.ticker.ask_early(urgent=False)
        self.sources.weigh(self._gather.readings + self._gather.messages)
        self._end_tick_if_over()

    def _end_tick_if_over(self) -> None:
        if not self._busy and (own := self.pressure.own_tick()) is not None:
            self._take(quiet_tick(self.clock.now(), *own.events), [], rewrites=own.rewrites)
        if self._busy or not self._gather or self.pressure.holding:
            return
        self.ticker.began(now_us := mono_us())  # by what no source brought, too
        if self.ticker.is_over(now_us, self._gather.readings):
            self._end_tick()
            return
        due = self._loop.time() + self.ticker.due_in_us(now_us) / 1e6
        if self._timer and self._timer.when() > due + _SOON_S:  # something came that cannot wait so long
            self._end_timer()
        if not self._timer:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _end_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self._end_tick_if_over()

    def _end_tick(self) -> None:
        gather, self._gather = self._gather, Gather()
        self.ticker.ended(mono_us(), gather.readings)
        tick, dead = gather.tick(self.clock.now(), self.index.take_fresh())
        self.evicting.look(tick)
        self._under_way = gather.bursts
        self._awaited.ended()
        self._busy = True
        doubt = self.horizon.doubtful(tick, self.state)
        if doubt is None:
            self._take(tick, dead, gather.births)
        else:
            self._looking = True
            look = self._loop.run_in_executor(None, self.horizon.judge, doubt)
            look.add_done_callback(partial(self._judged, tick, dead, gather.births))

    def _judged(
        self, tick: Tick, dead: list[DeadLetter], births: Births, look: asyncio.Future[Found]
    ) -> None:
        self._looking = False
        if (error := look.exception()) is not None:
            self._on_failure(error)
            return
        tick.known, tick.beyond = look.result()
        self._take(tick, dead, births)

    def _take(
        self, tick: Tick, dead: list[DeadLetter], births: Births = (), rewrites: Sequence[Rewrite] = ()
    ) -> None:
        """Step a tick and hand it to the writer."""
        self._busy = True
        self._end_timer()
        began = time.monotonic_ns()
        output = self.provisional.stepped = step(self.state, tick)
        self._traced.stepped()
        self.keeping.stepped((time.monotonic_ns() - began) // 1000)
        if slow := self.state.detection.slow():
            self._gather.add(self.events(*slow), None)
        for warning in output.warnings:
            log.warning("the step warns", text=warning)
        if output.verdicts:
            tick.arrival = excluding(tick.arrival, refused_messages(tick, output.verdicts))
        if output.beyond:
            dead = dead + beyond_letters(self._under_way, tick, output.beyond, self.state.names)
        self._writer.submit(Job(tick, output, dead, list(births), rewrites=rewrites))

    def _idle(self) -> None:
        """Once a second: a tick without messages, if time alone changes something."""
        self._idle_timer = self._loop.call_later(_LOOK_S, self._idle)
        self.pressure.look()
        self._writer.go_on_with_picture(_IDLE_COPY_S)
        busy = self._busy or (bool(self._gather) and not self.pressure.holding)
        if not self._looking:
            horizon_us = self.pressure.horizon_us(self.state.settings.horizon_us)
            chores = self.keeping.old_journal(self.horizon, self.state.age_us, horizon_us)
            self._writer.take_along(chores, now=not busy)
        if busy or self.pressure.holding:
            return
        now = self.clock.now()
        if self.state.is_due(now):
            self._take(quiet_tick(now), [])

    # The writer's answers, on the loop.

    def _on_commit(self, job: Job | None) -> None:
        if job is None:
            return
        self._busy = False
        self.committed = job.output.tick
        self._traced.committed(job)
        self.horizon.committed(job.output.tick, job.tick.arrival)
        self.keeping.committed(job)
        self.letters.kept(job.dead)
        if (rows := job.output.rows) or mono_us() > self._completed_us + _COMPLETE_US:
            self._completed_us = mono_us()
            self.forward.complete = completeness(self.state)  # of this tick: the next is not stepped yet
        if rows:
            self.forward.wake(rows, job.output.tick, job.tick.now.wall_us)
        bursts, self._under_way = self._under_way, []
        reached("acknowledge.before")
        self.sources.acknowledge(bursts, job.output)
        reached("acknowledge.after")
        self._awaited.committed(job.output.tick)
        self.put_out.committed(job)
        self.sources.weigh(self._gather.readings + self._gather.messages)
        if self.keeping.picture_is_due():
            self._writer.picture(snapshot.take(self.state))
        self.pressure.committed()
        self._wills.look()
        self.courier.committed(job.tick.events, job.output.commands)
        self._end_tick_if_over()

    def _hold(self, why: str) -> None:
        """Hold back, or go on (""); and make what room can be made now."""
        self.sources.hold(why)
        if not why:
            self.provisional.over()
        elif self._busy:
            self.provisional.stuck()
        if not self._busy and self.pressure.picture_is_due(self.state):
            self._writer.picture(snapshot.take(self.state))
        self._end_tick_if_over()

    def _on_picture(self, tick: int, size: int) -> None:
        """A snapshot counts, or (tick 0) was not read back: the journal before the older one of the two may go (R15)."""
        self.keeping.pictured(tick, size)
        self.forward.keep_from_tick = self.keeping.keep_from_tick

    def _on_failure(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _in_loop(self, call: Callable[..., None]) -> Callable[..., None]:
        def soon(*args: object) -> None:
            self._loop.call_soon_threadsafe(call, *args)

        return soon
