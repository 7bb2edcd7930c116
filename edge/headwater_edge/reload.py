"""SIGHUP: the settings are read again and checked as a whole, then taken up between two ticks; a mistake changes nothing.

What a step depends on goes into the journal as an event of one tick, which closes the windows that move (R12). All that waits
stays: the outbox, the sessions, what is not acknowledged. What cannot change under a running agent stays as it was, and is
named in the log.
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from headwater_edge import metric_settings
from headwater_edge.acts import OF_ORDERS, answer_filters
from headwater_edge.checked import Checked, check, read
from headwater_edge.detection.bearable import bearable
from headwater_edge.events import Settings
from headwater_edge.pipeline import Agent
from headwater_edge.settings import EdgeSettings
from headwater_edge.spread_past import check_unchanged
from headwater_edge.users import Users
from headwater_shared import logs, reload
from headwater_shared.crash import reached
from headwater_shared.errors import HeadwaterError
from headwater_shared.reload import COMMON_LIVE, Running, Wish, differences, taken_up
from headwater_shared.settings import Common, duration, load, size

log = logs.get_logger()

LIVE = frozenset(
    {
        "act", "dead_letters", "detect", "disk", "format", "forward", "grants", "jump", "limit", "max_series", "max_unacknowledged",
        "metric", "missing", "new_series_per_hour", "range", "rate", "rules", "series_idle", "site", "spread", "stuck", "tick", "tick_readings",
        "users", "window", "windows",
    }
)  # fmt: skip
"""Of [edge]: what a running agent takes up. Each other key needs a start, and stands in `RESTART`."""
RESTART = frozenset(
    {
        "alert", "broker", "bus", "devices", "egress", "health_host", "health_port", "http", "listener", "name",
        "state_key", "users_file",
    }
)  # fmt: skip
PART = "edge"


class Reloading:
    """One agent's settings as they are now. `ask` is what SIGHUP does; all of it runs on the agent's loop but for the reading.

    What `wish` was asked for before this is there is done first.
    """

    def __init__(
        self,
        agent: Agent,
        users: Users,
        common: Common,
        settings: EdgeSettings,
        file: Path | None = None,
        wish: Wish | None = None,
    ) -> None:
        self._agent, self._users, self._file = agent, users, file
        self._wish = wish
        self.common, self.settings = common, settings
        self.last: dict[str, Any] = {}
        """What the last one came to; empty: there was none."""
        self._reloads = 0
        self._asked = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Hear SIGHUP; the agent has started."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.ask)
        if self._wish is not None and self._wish.asked:
            self.ask()

    def ask(self) -> None:
        """Read the settings again soon; who asks meanwhile is answered by one more reading."""
        if self._wish is not None and self._wish.is_end():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self._asked = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="reload")

    async def _run(self) -> None:
        try:
            while self._asked:
                self._asked = False
                committed = await self.once()
                if (
                    committed is not None
                ):  # a full disk may keep it waiting, and the next settings may be the remedy
                    self._waiting.add(committed)
                    committed.add_done_callback(self._waiting.discard)
        finally:
            self._task = None

    async def once(self) -> asyncio.Task[None] | None:
        """Read, check and take up; return what ends when the journal has it, None if there is nothing to wait for."""
        try:
            common, new, found = await asyncio.to_thread(self._read)
            self._users.follow(new.passwords, new.settings.grants)
        except HeadwaterError as error:
            self.last = reload.failed(error)
            self._reloads += 1
            self.write()
            return None
        reached("reload.read")
        self.common, self.settings = common, new.settings
        logs.configure(common.log, common.log_level, part=PART)
        committed = asyncio.ensure_future(take_up(self._agent, new))
        reload.tell(found)
        self.last = reload.said(found)
        return asyncio.get_running_loop().create_task(self._done(committed))

    async def _done(self, committed: asyncio.Future[int]) -> None:
        tick = await committed
        reached("reload.after")
        self.last["tick"] = tick
        self._reloads += 1
        self.write()

    def _read(self) -> tuple[Common, Checked, list[reload.Difference]]:
        common, wanted = load(self._file, "common", Common), read(self._file)
        found = differences("common", self.common, common, COMMON_LIVE)
        found += differences("edge", self.settings, wanted, LIVE)
        before, after = ({*answer_filters(one.act), OF_ORDERS} for one in (self.settings, wanted))
        if self.settings.broker and before != after:  # the brokers were asked for others
            found.append(
                reload.Difference(
                    "edge.act, answers through brokers", sorted(before), sorted(after), live=False
                )
            )
        check(wanted)  # also what is not taken up now: the next start must not fail by it
        ours = taken_up(self.settings, wanted, LIVE)
        new = check(ours, self._agent.index, self._agent.decode.formats)
        check_unchanged(self._agent.state.settings.spread, new.step.spread, self._agent.state.begun_us())
        return taken_up(self.common, common, COMMON_LIVE), new, found

    def write(self) -> None:
        """Write down what the agent runs with."""
        tables = {"common": msgspec.to_builtins(self.common), PART: msgspec.to_builtins(self.settings)}
        reload.write_running(
            Path(self.common.data), PART, Running(os.getpid(), tables, self.last, self._reloads)
        )


async def take_up(agent: Agent, new: Checked) -> int:
    """Take up settings, up to the first wait in one go: no reading comes between. Returns the tick of the journal that has them."""
    settings = new.settings
    agent.decode.follow(new.formats, new.ranges)
    counts_up = partial(metric_settings.counts_up, settings.metric)
    agent.index.follow(settings.max_series, settings.new_series_per_hour, counts_up)
    agent.ticker.follow(duration(settings.tick), settings.tick_readings)
    agent.evicting.follow(settings)
    agent.sources.most = settings.max_unacknowledged
    agent.letters.quota = size(settings.dead_letters)
    agent.forward.drain_bytes = size(settings.forward.drain)
    agent.forward.watch.after_s = duration(settings.forward.stall) / 1e6
    agent.pressure.follow(settings.disk, new.step.levels)
    reached("reload.before")
    body = msgspec.json.encode(bearable(new.step, agent.state.names)).decode()
    return await agent.take_in([(agent.events(Settings(body)), None)])
