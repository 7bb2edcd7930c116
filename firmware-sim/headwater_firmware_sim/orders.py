"""Commands to one device: each is executed once, whatever comes how often, for ids are remembered; the ledger is where.

What was executed is in the ledger before it has an effect and before it is answered, so a fleet that is killed neither
forgets nor repeats. An answer may be lost: whoever sent the command sends it again, and is answered again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import exp

import msgspec

from headwater_firmware_sim.device import Device
from headwater_shared.clock import Clock
from headwater_shared.ledger import Executed, Reading
from headwater_shared.ledger_writer import Ledger
from headwater_shared.settings import duration

Answer = Callable[[bytes], None]


class _Command(msgspec.Struct):
    """The payload of a command, as far as a device reads it."""

    id: str
    name: str
    expires_us: int | None = None


class _Effect:
    """A metric's way towards a value and back: how much of its own is left, as of each switching."""

    def __init__(self, within_us: float) -> None:
        self._within_us = within_us
        self._times: list[int] = []
        self._after: list[tuple[bool, float]] = []
        """Whether it is on from then, and what was left then."""

    def switch(self, time_us: int, *, on: bool) -> None:
        left = self.left(time_us)
        self._times.append(time_us)
        self._after.append((on, left))

    def left(self, time_us: int) -> float:
        """Return how much of its own a metric has at a time: from 1 down to 0, and back."""
        at = bisect_right(self._times, time_us) - 1
        if at < 0:
            return 1.0
        on, left = self._after[at]
        target = 0.0 if on else 1.0
        return target + (left - target) * exp((self._times[at] - time_us) / self._within_us)


class Orders:
    """The commands of one device, and what they change; `clock` tells when one is executed."""

    def __init__(self, device: Device, book: Ledger, clock: Clock, executed: Sequence[Executed] = ()) -> None:
        plan = device.plan
        self.topic = f"hw/{device.site}/{device.name}/cmd"
        self.takes = bool(plan.scenario.commands)
        self._device = device
        self._book = book
        self._index = book.device(device.site, device.name)
        self._clock = clock
        self._reactions = plan.scenario.commands
        self._effects = {
            name: _Effect(duration(reaction.within) * plan.scale)
            for name, reaction in self._reactions.items()
            if reaction.towards
        }
        self._done: dict[str, str] = {}
        """Id and name of what was executed."""
        self._pending: set[str] = set()
        for one in executed:
            self._remember(one)

    def take(self, payload: bytes, answer: Answer) -> None:
        """Take a command; the answer may come later, or never."""
        try:
            command = msgspec.json.decode(payload, type=_Command)
        except msgspec.DecodeError:
            return  # nobody can answer what has no id
        reaction = self._reactions.get(command.name)
        if command.id in self._done:
            if reaction is None or reaction.answer != "none":
                answer(_answer(command.id, "done"))
        elif reaction is None or reaction.answer == "refused":
            answer(_answer(command.id, "refused", f"this device does not {command.name}"))
        elif command.id not in self._pending:
            self._pending.add(command.id)
            after_s = duration(reaction.after) / 1e6
            if after_s:
                asyncio.get_running_loop().call_later(after_s, self._execute, command, answer)
            else:
                self._execute(command, answer)

    def changed(self, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        """Return what the device measures in truth: what was executed shows in readings of later times."""
        if not self._done or not self._effects:
            return readings
        return tuple(map(self._changed, readings))

    def _changed(self, reading: Reading) -> Reading:
        name, value = self._device.metric_of(reading.metric), reading.value
        at_us = reading.time_us if self._device.timed else self._clock.now().wall_us
        for command, effect in self._effects.items():
            towards = self._reactions[command].towards.get(name)
            if towards is not None:
                value = towards + (value - towards) * effect.left(at_us)
        if value == reading.value:
            return reading
        return reading._replace(value=round(value, self._device.plan.scenario.metrics[name].decimals) + 0.0)

    def _execute(self, command: _Command, answer: Answer) -> None:
        self._pending.discard(command.id)
        now_us = self._clock.now().wall_us
        if command.expires_us is not None and now_us > command.expires_us:
            answer(_answer(command.id, "refused", "its time to live is over"))
            return
        one = Executed(self._index, command.id, command.name, now_us + 1)
        self._book.executed(one)
        self._book.commit()
        self._remember(one)
        if self._reactions[command.name].answer == "done":
            answer(_answer(command.id, "done"))

    def _remember(self, one: Executed) -> None:
        self._done[one.id] = one.name
        reaction = self._reactions.get(one.name)
        if one.name in self._effects:
            self._effects[one.name].switch(one.time_us, on=True)
        if reaction is not None and reaction.ends in self._effects:
            self._effects[reaction.ends].switch(one.time_us, on=False)


def _answer(command: str, status: str, reason: str = "") -> bytes:
    return msgspec.json.encode({"id": command, "status": status} | ({"reason": reason} if reason else {}))
