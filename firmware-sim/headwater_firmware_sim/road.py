"""The road between a device's link and its socket, where the network has trouble: a transport and a protocol in one.

Only devices that a network script concerns have one. To the link it is the transport, to the socket the protocol. Which
troubles there are is looked at when one begins or ends, not with every write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from headwater_firmware_sim.link import Link
from headwater_firmware_sim.network import Trouble
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.roster import Member
from headwater_firmware_sim.signals import generator
from headwater_shared.settings import duration

Turn = tuple[int, Callable[[int], None]]
"""An event time, microseconds, and what is to be told then that it is."""


class Road(asyncio.Protocol):
    """One device's; `turn` is called at the begin and the end of each trouble."""

    def __init__(
        self, link: Link, troubles: Sequence[tuple[Trouble, int, int]], luck: np.random.Generator
    ) -> None:
        self._link = link
        self._troubles = troubles
        self._luck = luck
        self._active: list[Trouble] = []
        self._transport: asyncio.Transport | None = None
        self._late: deque[Callable[[], None]] = deque()
        self._arrives = 0.0
        """When the last of it does, by the loop's time: nothing overtakes."""
        self._gap = False
        """Something was swallowed: what comes after it on this connection would make no sense."""

    def turn(self, now_us: int) -> None:
        """Look at what troubles there are now; a connection that was cut, or has a gap, ends."""
        blocked = self._way("up") or self._way("down")
        self._active = [trouble for trouble, begin, end in self._troubles if begin <= now_us < end]
        opened = blocked and not (self._way("up") or self._way("down"))
        if not self.is_open() or (opened and self._gap):
            self.abort()

    def is_open(self) -> bool:
        """Whether a connection can be made."""
        return not any(trouble.kind == "cut" for trouble in self._active)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection on: to the link this is its transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._gap = False
        self._link.connection_made(cast("asyncio.BaseTransport", self))

    def data_received(self, data: bytes) -> None:
        """Let pass what the server says, as the network does."""
        if self._way("down"):
            self._gap = True
        else:
            self._pass(lambda: self._link.data_received(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the link."""
        self._transport = None
        self._link.connection_lost(exc)

    def write(self, data: bytes) -> None:
        """Let pass what the device says, as the network does."""
        transport = self._transport
        if transport is None:
            return
        if any(trouble.kind == "drop" and self._luck.random() < trouble.share for trouble in self._active):
            self.abort()
        elif self._way("up"):
            self._gap = True
        else:
            self._pass(lambda: transport.write(data))

    def close(self) -> None:
        """End the connection when all is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _way(self, direction: str) -> bool:
        return any(trouble.kind == "one-way" and trouble.blocked == direction for trouble in self._active)

    def _pass(self, deliver: Callable[[], None]) -> None:
        """Deliver at once, or later; in order even where a delay ends while something is on the way."""
        delay_us = max((duration(one.by) for one in self._active if one.kind == "delay"), default=0)
        if not delay_us and not self._late:
            deliver()
            return
        transport = self._transport

        def deliver_here() -> None:
            if self._transport is transport and transport is not None:
                deliver()

        loop = asyncio.get_running_loop()
        self._arrives = max(self._arrives, loop.time() + delay_us / 1e6)
        self._late.append(deliver_here)
        loop.call_at(self._arrives, self._arrive)

    def _arrive(self) -> None:
        self._late.popleft()()


def lay(plan: Plan, members: Sequence[Member], links: Sequence[Link]) -> list[Turn]:
    """Give each device that a network script concerns its road.

    Returns:
        When each is to be told of a begin or an end, the earliest first.
    """
    scripts = [(one, *one.interval_us(plan.origin_us, plan.scale)) for one in plan.scenario.network]
    turns: list[Turn] = []
    for member, link in zip(members, links, strict=True):
        mine = [script for script in scripts if script[0].concerns(member.device.site, member.device.name)]
        if not mine:
            continue
        road = Road(link, mine, generator(plan.seed, member.device.name, "road"))
        link.protocol, link.reachable = road, road.is_open
        turns += [(at_us, road.turn) for _, begin, end in mine for at_us in (begin, end)]
    return sorted(turns, key=lambda turn: turn[0])
