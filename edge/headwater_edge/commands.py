"""The life of commands, as the step knows it: let out, one after the other; then done, refused, expired or undone (R14).

Commands of one act on one series go one after the other, so that what undoes a command never overtakes it; so do those that
the cloud side ordered for one device. Time to live is monotonic time from being let out, for an order from when it was issued;
while the agent is off, across a reboot, only believed clocks say how long that was: a command of which that is not known
waits for the clock, and is not sent, so that nothing is done later than it may be.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headwater_edge.acts import ANSWERS, Order
from headwater_edge.events import Answered
from headwater_shared.clock import SYNCHRONISED, Now
from headwater_shared.records import Anomaly, CommandStatus

PER_DEVICE = 32
"""Commands that may be open for one device, and all that are kept, those included whose anomaly lasts; more are refused."""
MOST = 5_000
_REMEMBERED = 100
_NEVER_US = 2**62

WAITS, OPEN, ENDED = "waits", "open", "ended"
"""Behind another of its act and series; let out; over, and kept for what may undo it."""


class Command(msgspec.Struct, array_like=True):
    """One command. `undo` is what undoes it ("": nothing will), `undoes` the id of the command that it undoes itself.

    One that the cloud side ordered is of no act and no anomaly: its `rule` is who asked for it, its `series` the device.
    """

    id: str
    act: str
    rule: str
    anomaly: str
    series: str
    device: str
    topic: str
    command: str
    """JSON of its name and arguments."""
    undo: str
    undo_id: str
    undoes: str
    begin_us: int
    """Event time of the anomaly's begin; when an order was issued."""
    ttl_us: int
    retry_us: int
    state: str = WAITS
    due_us: int = 0
    """Monotonic time at which it has expired, once it is let out; an order's from the first."""
    due_wall_us: int = 0
    """The same by the wall clock, if that was believed then."""
    unsure: bool = False
    """Nobody knows how much of its life has passed: it is not sent."""

    @property
    def of_series(self) -> str:
        """The series whose anomaly it is for; empty: the cloud side ordered it."""
        return self.series if self.act else ""


class Ended(msgspec.Struct, array_like=True, frozen=True):
    """How a command ended, for people."""

    id: str
    act: str
    device: str
    series: str
    name: str
    status: str
    reason: str
    time_us: int
    who: str = ""
    """Who asked for it, where that was no act."""


class Counts(msgspec.Struct):
    """What became of commands and their answers, since the file was made."""

    let_out: int = 0
    done: int = 0
    refused: int = 0
    expired: int = 0
    undone: int = 0
    answers_ignored: int = 0
    """Answers that came twice, or too late, or to nothing."""
    answers_of_others: int = 0
    """Answers by a device that the command was not for."""


Put = Callable[[Command, CommandStatus, str], None]
"""Takes what became of a command, and why."""


class Commands:
    """All commands that are not over, and the last that are."""

    def __init__(self) -> None:
        self.by_id: dict[str, Command] = {}
        """In the order in which they came, which is that of each chain."""
        self.counts = Counts()
        self.ended: deque[Ended] = deque(maxlen=_REMEMBERED)
        self.version = 0
        """Grows whenever a command is let out or ends."""
        self._chains: dict[tuple[str, str], list[Command]] = {}
        self._of_anomaly: dict[str, list[Command]] = {}
        self._open_of: Counter[str] = Counter()
        """By device: commands that are not over."""
        self._next_us = _NEVER_US
        self._unsure = 0

    def open(self) -> list[Command]:
        """Return what is let out and has no answer."""
        return [command for command in list(self.by_id.values()) if command.state == OPEN]

    def begin(self, order: Order, anomaly: Anomaly, now: Now, put: Put) -> None:
        """An anomaly begins: its command is let out, or stands behind the one before it."""
        before = self.by_id.get(order.id)
        if before is not None:  # it is over and here again at one event time
            self._withdraw_undo(self._chain(before), now, put)
            return
        command = Command(
            order.id, order.act, anomaly.rule, anomaly.id, anomaly.series, order.device, order.topic, order.command,
            order.undo, order.undo_id, "", anomaly.begin_us, order.ttl_us, order.retry_us,
        )  # fmt: skip
        if why := self._too_many(command.device):
            self._end(command, "refused", why, now, put)
            return
        chain = self._chain(command)
        self._withdraw_undo(chain, now, put)
        for old in [old for old in chain if old.state == ENDED]:
            self._forget(old)
        for old in chain:
            old.undo = ""  # one undo, that of the newest, is enough
        self._add(command)
        self._advance(command, now, put)

    def order(self, command: Command, refused: str, now: Now, put: Put) -> None:
        """The cloud side ordered a command: it stands behind those that it ordered for the device before, and its time runs.

        Args:
            refused: why it is refused, if it is.
        """
        if why := refused or self._too_many(command.device):
            self._end(command, "refused", why, now, put)
            return
        command.due_wall_us = command.begin_us + command.ttl_us
        command.unsure = now.quality != SYNCHRONISED
        left_us = command.ttl_us if command.unsure else min(command.ttl_us, command.due_wall_us - now.wall_us)
        if left_us <= 0:
            self._end(command, "expired", "it came too late", now, put)
            return
        command.due_us = now.mono_us + left_us
        self._next_us = min(self._next_us, command.due_us)
        self._unsure += command.unsure
        self._add(command)
        self._advance(command, now, put)

    def over(self, anomaly: Anomaly, now: Now, put: Put) -> None:
        """An anomaly is over: what undoes its commands is let out once they have ended."""
        for first in [command for command in self._of_anomaly.get(anomaly.id, ()) if command.undo]:
            undo = Command(
                first.undo_id, first.act, first.rule, first.anomaly, first.series, first.device, first.topic, first.undo,
                "", "", first.id, first.begin_us, first.ttl_us, first.retry_us,
            )  # fmt: skip
            first.undo = ""
            self._add(undo)
            self._advance(undo, now, put)

    def answer(self, event: Answered, now: Now, put: Put) -> None:
        """A device answered; only the first answer to what is open counts, and only from whom it was for."""
        command = self.by_id.get(event.id)
        if command is not None and event.topic != command.topic + ANSWERS:
            self.counts.answers_of_others += 1
        elif command is None or command.state != OPEN:
            self.counts.answers_ignored += 1
        else:
            self._end(command, event.status, event.reason, now, put)

    def start(self, before: Now | None, now: Now) -> None:
        """A new epoch; after a reboot monotonic time has begun anew."""
        if before is None or before.boot == now.boot:
            return
        believed = now.quality == before.quality == SYNCHRONISED
        for command in self._living():
            left_us = command.due_us - before.mono_us
            if believed and not command.unsure:
                left_us -= max(now.wall_us - before.wall_us, 0)
            else:
                command.unsure = True
            command.due_us = now.mono_us + left_us
        self._look_ahead()

    def ripen(self, now: Now, put: Put) -> None:
        """Whose time to live has passed has expired; what was unsure of its own may have a believed clock by now."""
        if self._unsure and now.quality == SYNCHRONISED:
            for command in self._living():
                if command.unsure and command.due_wall_us:
                    command.due_us = min(command.due_us, now.mono_us + command.due_wall_us - now.wall_us)
                    command.unsure = False
                    self.version += 1
            self._look_ahead()
        while now.mono_us >= self._next_us:
            for command in sorted(
                self._living(), key=lambda c: c.state == OPEN
            ):  # none is let out to expire at once
                if command.due_us <= now.mono_us:
                    self._end(command, "expired", _why_over(command), now, put)
            self._look_ahead()

    def is_due(self, now: Now) -> bool:
        """Whether time alone ends a command, or a believed clock says how old one is."""
        return now.mono_us >= self._next_us or (self._unsure > 0 and now.quality == SYNCHRONISED)

    def _too_many(self, device: str) -> str:
        if len(self.by_id) >= MOST:
            return f"{MOST} commands are open"
        return f"{PER_DEVICE} commands are open for the device" if self._open_of[device] >= PER_DEVICE else ""

    def _chain(self, command: Command) -> list[Command]:
        return self._chains.get((command.act, command.series), [])

    def _add(self, command: Command) -> None:
        self.by_id[command.id] = command
        self._chains.setdefault((command.act, command.series), []).append(command)
        if command.anomaly:
            self._of_anomaly.setdefault(command.anomaly, []).append(command)
        self._open_of[command.device] += command.state != ENDED

    def _forget(self, command: Command) -> None:
        if command.id not in self.by_id:
            return
        self._is_over(command)
        del self.by_id[command.id]
        _take_out(self._chains, (command.act, command.series), command)
        _take_out(self._of_anomaly, command.anomaly, command)

    def _is_over(self, command: Command) -> None:
        if command.state != ENDED and command.id in self.by_id:
            self._open_of -= Counter([command.device])  # and none is kept at 0
        command.state = ENDED

    def _withdraw_undo(self, chain: list[Command], now: Now, put: Put) -> None:
        """The anomaly is back: what would undo its command is not to be done, and the command may be undone later."""
        for undo in [command for command in chain if command.undoes]:
            first = self.by_id.get(undo.undoes)
            if first is not None and not first.undo:
                first.undo = undo.command
            self._end(undo, "refused", "withdrawn: the anomaly is back", now, put)

    def _advance(self, of: Command, now: Now, put: Put) -> None:
        """Let out the first of a chain that is not over."""
        head = next((command for command in self._chain(of) if command.state != ENDED), None)
        if head is None or head.state == OPEN:
            return
        head.state = OPEN
        if not head.due_us:
            head.due_us = now.mono_us + head.ttl_us
            head.due_wall_us = now.wall_us + head.ttl_us if now.quality == SYNCHRONISED else 0
        self._next_us = min(self._next_us, head.due_us)
        self.version += 1
        self.counts.let_out += 1
        put(head, "open", "")

    def _end(self, command: Command, status: CommandStatus, reason: str, now: Now, put: Put) -> None:
        """End a command; keep it only where something may undo it yet."""
        self.version += 1
        self._note(command, status, reason, now, put)
        undo = next((other for other in self._chain(command) if other.undoes == command.id), None)
        self._is_over(command)
        if status == "refused" and undo is not None:
            self._forget(undo)
            self._note(undo, "refused", "what it would undo was refused", now, put)
            undo = None
        if status == "refused" or not (command.undo or undo):
            self._forget(command)
        first = self.by_id.get(command.undoes) if command.undoes else None
        if first is not None and not first.undo:
            self._forget(first)
            if status == "done":
                self._note(first, "undone", "", now, put)
        self._advance(command, now, put)

    def _note(self, command: Command, status: CommandStatus, reason: str, now: Now, put: Put) -> None:
        setattr(self.counts, status, getattr(self.counts, status) + 1)
        name = msgspec.json.decode(command.command)["name"]
        self.ended.append(
            Ended(
                command.id, command.act, command.device, command.of_series, name, status, reason, now.wall_us,
                "" if command.act else command.rule,
            )
        )  # fmt: skip
        put(command, status, reason)

    def _living(self) -> list[Command]:
        """Return those whose time to live runs: what is let out, and what of orders waits."""
        return [one for one in list(self.by_id.values()) if one.due_us and one.state != ENDED]

    def _look_ahead(self) -> None:
        waiting = self._living()
        self._next_us = min((command.due_us for command in waiting), default=_NEVER_US)
        self._unsure = sum(command.unsure and command.due_wall_us > 0 for command in waiting)

    def dump(self) -> dict[str, Any]:
        return {
            "all": list(self.by_id.values()),
            "ended": list(self.ended),
            "counts": msgspec.to_builtins(self.counts),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take up what a snapshot has; one of before there were commands has nothing."""
        commands: Iterable[Command] = msgspec.convert(dumped.get("all", []), list[Command])
        for command in commands:
            self._add(command)
        self.ended.extend(msgspec.convert(dumped.get("ended", []), list[Ended]))
        self.counts = msgspec.convert(dumped.get("counts", {}), Counts)
        self._look_ahead()


def _why_over(command: Command) -> str:
    if command.state == WAITS:
        return "it waited behind another command for the device"
    if command.unsure:
        return "nobody knows how long the agent was off" if command.act else "nobody knows how old it is"
    return "no answer"


def _take_out(lists: dict[Any, list[Command]], key: object, command: Command) -> None:
    left = [other for other in lists.get(key, ()) if other is not command]
    if left:
        lists[key] = left
    else:
        lists.pop(key, None)
