"""The courier: sends commands that are open, after the commit that let them out, until they have ended (R14).

What it knows is made anew from the state at each commit, so after a restart it sends all that is open again, with the same
ids. A device that comes hears its commands at once; one that is there and does not answer hears them again, with growing
pauses. One that is away hears nothing: its commands wait, within their time to live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from typing import Any

import msgspec

from headwater_edge.acts import ANSWERS, Order
from headwater_edge.commands import Command, Commands
from headwater_edge.events import Answered, Connect, Event, Subscribe
from headwater_shared import records
from headwater_shared.clock import SYNCHRONISED, Clock, Now
from headwater_shared.crash import reached
from headwater_shared.logs import get_logger

log = get_logger()

_LONGEST_S = 60.0
"""Between two repeats to a device that does not answer."""
_SOONEST_S = 0.01

_COMING = (Connect, Subscribe)
"""Events after which a device may be there that was not."""

Send = Callable[[bytes, bytes, int, Container[int]], list[int]]
"""Takes topic, payload, seconds to live and the connections to leave out; returns those over which it went."""


class _Errand:
    """A command on its way."""

    __slots__ = ("again_s", "chain", "command", "due_us", "over", "pause_s", "topic", "undoes")

    def __init__(self, of: Command | Order, due_us: int, undoes: str, chain: tuple[str, str]) -> None:
        self.command = msgspec.json.decode(of.command) | {"id": of.id}
        self.topic = of.topic
        self.due_us = due_us
        self.undoes = undoes
        self.chain = chain
        self.over: set[int] = set()
        """Connections over which it went."""
        self.pause_s = of.retry_us / 1e6
        self.again_s = 0.0
        """Monotonic seconds at which it may go again over these."""


class Courier:
    """What is on its way to devices; all on the event loop.

    Args:
        commands: the state's; looked at only between commits and the next step.
        send: gives a command to all sources.
        clock: for times to live; pauses between repeats are real time.
    """

    def __init__(self, commands: Commands, send: Send, clock: Clock) -> None:
        self._commands = commands
        self._send = send
        self._clock = clock
        self._version = -1
        self._errands: dict[str, _Errand] = {}
        self._provisional: dict[str, _Errand] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.sent = 0
        """Commands that went over some connection, repeats too."""

    @property
    def waiting(self) -> int:
        """Commands whose device was not there since they were let out, or the agent started."""
        return sum(not errand.over for errand in self._errands.values())

    def committed(self, events: Iterable[tuple[int, Event]], said: Iterable[records.Command]) -> None:
        """A tick with these events is on disk, and what it said of commands; none is stepped that is not."""
        for one in said:
            say = log.warning if one.status in ("refused", "expired") else log.info
            say(
                "command",
                status=one.status,
                name=one.name,
                device=one.device,
                act=one.act,
                who="" if one.act else one.rule,
                id=one.id,
                reason=one.reason,
            )
        changed = self._commands.version != self._version
        if not (changed or self._errands):
            return
        comes = any(type(event) in _COMING for _, event in events)
        if changed:
            self._version = self._commands.version
            reached("command.committed")
            before = self._errands
            self._errands = {
                c.id: before.get(c.id) or _Errand(c, c.due_us, c.undoes, (c.act, c.series))
                for c in self._commands.open()
                if not c.unsure
            }
            if before.keys() - self._errands.keys():
                reached("command.ended")
        if changed or comes:
            self._look(comes=comes)

    def act_provisionally(self, orders: Iterable[Order | Command], series: str) -> None:
        """The disk is full: send what the step will let out, with the id that it will have (R18). What went before it on its
        series is not repeated meanwhile, so that it is not overtaken.
        """
        now, wanted = self._clock.now(), list(orders)
        if not wanted:
            return
        for order in wanted:
            if order.id not in self._errands and order.id not in self._provisional:
                undoes = order.undoes if isinstance(order, Command) else ""
                errand = _Errand(order, now.mono_us + order.ttl_us, undoes, (order.act, series))
                self._provisional[order.id] = errand
                log.warning(
                    "provisional: a command", act=order.act, device=order.device, id=order.id, series=series
                )
        self._look()

    def hear(self, answers: Iterable[tuple[int, Answered]]) -> None:
        """Answers came that no step takes in now: what they answer is not repeated meanwhile."""
        for _, answer in answers:
            for errands in (self._provisional, self._errands):
                errand = errands.get(answer.id)
                if errand is not None and errand.topic + ANSWERS == answer.topic:
                    errand.again_s = float("inf")

    def go_on(self) -> None:
        """The disk has room again: the step says the rest."""
        self._provisional.clear()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, *, comes: bool = False) -> None:
        """Send what may go now, and come back when something may go again; `comes`: a device may be there that was not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        clock, now = loop.time(), self._clock.now()
        taken = {errand.chain for errand in self._provisional.values()}
        held = [e for e in self._errands.values() if not taken or e.chain not in taken]
        next_s = float("inf")
        every = [*held, *self._provisional.values()]
        for errand in sorted(every, key=lambda e: bool(e.over)):  # what went nowhere yet, before repeats
            if errand.due_us <= now.mono_us or errand.again_s == float("inf"):
                continue
            if comes or clock >= errand.again_s:
                self._one(errand, clock, now)
            next_s = min(next_s, errand.again_s)
        if next_s < float("inf"):
            self._timer = loop.call_at(max(next_s, clock + _SOONEST_S), self._look)

    def _one(self, errand: _Errand, clock: float, now: Now) -> None:
        repeat = clock >= errand.again_s
        left_us = errand.due_us - now.mono_us
        reached("command.sending")
        over = self._send(
            errand.topic.encode(),
            _payload(errand, left_us, now),
            -(-left_us // 1_000_000),
            () if repeat else errand.over,
        )
        if over:
            reached("command.sent")
            self.sent += len(over)
        if repeat:
            errand.again_s = clock + errand.pause_s
            errand.over = set(over)
            if over:
                errand.pause_s = min(2 * errand.pause_s, _LONGEST_S)
        else:
            errand.over.update(over)


def _payload(errand: _Errand, left_us: int, now: Now) -> bytes:
    said: dict[str, Any] = {"id": errand.command["id"], **errand.command, "ttl_s": round(left_us / 1e6, 3)}
    if now.quality == SYNCHRONISED:
        said["expires_us"] = now.wall_us + left_us
    if errand.undoes:
        said["undoes"] = errand.undoes
    return msgspec.json.encode(said)
