"""The fleet as one asyncio process: a socket a device, one ledger commit for all that is sent in one nap."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections import deque
from collections.abc import Callable, Sequence

from headwater_firmware_sim.ending import Ending
from headwater_firmware_sim.link import Link
from headwater_firmware_sim.plan import FOREVER_US, Plan
from headwater_firmware_sim.road import lay
from headwater_firmware_sim.roster import Member
from headwater_firmware_sim.server import Server
from headwater_firmware_sim.tally import Tally
from headwater_shared.clock import Clock
from headwater_shared.errors import HeadwaterError
from headwater_shared.ledger_writer import Ledger

NAP_S = 0.02
"""What is due within one nap is written to the ledger by one write."""
_CONNECTING = 250
"""Devices that may be between connect and CONNACK at once."""


class Fleet:
    """Drives the devices of a plan until the run is over."""

    def __init__(
        self,
        plan: Plan,
        members: Sequence[Member],
        server: Server,
        book: Ledger,
        clock: Clock,
        *,
        paced: bool,
        link: type[Link] = Link,
    ) -> None:
        """Make the links, of one kind; `paced` lets each sample wait for its time, else it goes out as soon as there is room."""
        self.tally = Tally(devices=plan.devices)
        self._plan = plan
        self._book = book
        self._clock = clock
        self._paced = paced
        self._awake: set[Link] = set()
        self._due: list[tuple[int, int, Link]] = []
        self._pumping = False
        self._links = [
            link(
                member.device.name,
                member.flash,
                member.script,
                server.at(member.device.site),
                self.tally,
                self._wake,
                misbehaves=plan.misbehave,
            )
            for member in members
        ]
        self._turns = deque(lay(plan, members, self._links))
        """What the network does next."""
        self._mortal = bool(plan.lives_us)
        begins = [member.device.begin_us if self._mortal else 0 for member in members]
        self._unborn = deque(sorted(zip(begins, range(len(begins)), self._links, strict=True)))
        self._living: dict[Link, asyncio.Task[None]] = {}
        self._finished = 0
        """So many links, counted from the first, have nothing left to do."""

    async def run(
        self, drain_s: float, stop: threading.Event, each_second: Callable[[Tally], None] | None = None
    ) -> None:
        """Send all of the plan, and again until it is acknowledged, or until the ending says that it is over.

        Raises:
            SettingsError: the server refuses a device in a way that only a person can change.
            StateError: the ledger cannot be written.
        """
        ending = Ending(self._plan.end_us, paced=self._paced, drain_s=drain_s, stop=stop)
        gate = asyncio.Semaphore(_CONNECTING)
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._drive(
                    ending, each_second, lambda link: tasks.create_task(link.stay_connected(gate))
                )
                for task in self._living.values():
                    task.cancel()
        except BaseExceptionGroup as group:
            first = group.exceptions[0]
            raise first if isinstance(first, HeadwaterError) else group from None
        finally:
            self.tally.in_flight = self.unacknowledged
            for link in self._links:
                link.hang_up()
            await asyncio.sleep(0)  # so that the goodbyes go out

    @property
    def unacknowledged(self) -> int:
        """Messages that were sent, and may be on the way."""
        return sum(link.unacknowledged for link in self._links)

    @property
    def unsent(self) -> bool:
        """Whether a part of the plan was not even sent."""
        return any(link.unsent for link in self._links)

    async def _drive(
        self,
        ending: Ending,
        each_second: Callable[[Tally], None] | None,
        connect: Callable[[Link], asyncio.Task[None]],
    ) -> None:
        loop = asyncio.get_running_loop()
        second = loop.time() + 1
        halted = finished = False
        while not ending.over(self._now_us(), self.tally.acknowledged, finished=finished):
            self._come(connect)
            await asyncio.sleep(NAP_S)
            if ending.stop.is_set() and not halted:
                halted = True
                for link in self._links:
                    link.halt()
            self._wake_due()
            self._pump()
            if loop.time() >= second:
                second += 1
                self._each_second(loop.time(), each_second)
            finished = self._all_finished()
        self._book.commit()

    def _each_second(self, now: float, each_second: Callable[[Tally], None] | None) -> None:
        for link in list(self._living):
            if self._mortal and link.finished:
                link.hang_up()
                self._living.pop(link).cancel()
            else:
                link.check_alive(now)
        if each_second is not None:
            self.tally.in_flight = self.unacknowledged
            each_second(self.tally)

    def _come(self, connect: Callable[[Link], asyncio.Task[None]]) -> None:
        """Let devices come whose time it is, and the network do what it does then."""
        now_us = self._now_us()
        while self._unborn and (self._unborn[0][0] <= now_us or not self._paced):
            link = self._unborn.popleft()[-1]
            self._living[link] = connect(link)
        while self._turns and self._turns[0][0] <= now_us:
            self._turns.popleft()[1](now_us)

    def _all_finished(self) -> bool:
        """Tell whether nothing is left to do: who has finished stays so, and is not asked again."""
        while self._finished < len(self._links) and self._links[self._finished].finished:
            self._finished += 1
        return self._finished == len(self._links)

    def _now_us(self) -> int:
        return self._clock.now().wall_us

    def _wake(self, link: Link) -> None:
        """Have a link looked at: at the next nap, or, where nothing is paced, as soon as all sockets were read."""
        self._awake.add(link)
        if not self._paced and not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _wake_due(self) -> None:
        now_us = self._now_us()
        while self._due and self._due[0][0] <= now_us:
            _, _, link = heapq.heappop(self._due)
            link.scheduled = False
            self._awake.add(link)

    def _pump(self) -> None:
        """Gather what all that are awake may send, make it safe, send it."""
        self._pumping = False
        now_us = self._now_us() if self._paced else FOREVER_US
        awake, self._awake = self._awake, set()
        for link in awake:
            due_us = link.fill(now_us)
            if due_us is not None:
                link.scheduled = True
                heapq.heappush(self._due, (due_us, id(link), link))
        self._book.commit()
        for link in awake:
            if link.has_output:
                link.flush()
