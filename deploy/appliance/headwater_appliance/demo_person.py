"""The technician of a demo: is told of a pattern that was recognised, takes a moment to read it, and acknowledges it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import msgspec

from headwater_appliance.view import View
from headwater_cloud import acting, alert_history
from headwater_cloud.history import History
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_words import words_of
from headwater_cloud.sending import Message
from headwater_shared.bus import Bus
from headwater_shared.errors import BusUnavailable, Refused

_READS_S = 3.0
_WHO = "the technician"


class _Line(msgspec.Struct):
    """What matters of a line of the file."""

    id: str
    alert: str
    rule: str
    state: str
    incident: str = ""


class Technician:
    """Reads what people are told, where a demo's notifications go to: a file."""

    def __init__(
        self, view: View, told: Path, patterns: Collection[str], open_bus: Callable[[], Bus]
    ) -> None:
        """Begin.

        Args:
            view: of the box.
            told: that file.
            patterns: the rules that he takes care of himself.
            open_bus: opens the bus that what he does goes to.
        """
        self._view, self._told, self._patterns, self._open_bus = view, told, patterns, open_bus
        self._read = 0
        self._in_hand: list[tuple[float, str]] = []
        """By the wall clock, when he has read it; and the alert."""

    def news(self, now_us: int) -> list[str]:
        """Return what he was told since the last look, word for word; acknowledge what he has read."""
        history = self._view.history()
        if history is None:
            return []
        said = [text for one in self._lines() for text in self._words(history, one)]
        now_s = time.monotonic()
        due = [alert for at_s, alert in self._in_hand if at_s <= now_s]
        self._in_hand = [(at_s, alert) for at_s, alert in self._in_hand if at_s > now_s]
        for alert in due:
            self._acknowledge(history, alert, now_us)
        return said

    def _lines(self) -> list[_Line]:
        try:
            with self._told.open("rb") as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._read += len(whole) + len(newline)
        lines = [msgspec.json.decode(line, type=_Line) for line in whole.splitlines()]
        return [line for line in lines if line.rule in self._patterns and line.state == "firing"]

    def _words(self, history: History, line: _Line) -> list[str]:
        """Say what he reads, and remember to act on it."""
        told = alert_history.told(history.connection, line.alert, line.incident)
        one = next((one for one in told if one.id == line.id), None)
        if one is None:
            return []
        self._in_hand.append((time.monotonic() + _READS_S, line.alert))
        words = words_of(Message(one.id, (one,)), Zones({}), None, lambda _: "")
        first, *rest = words.lines
        return [f"        TOLD   {_WHO}: {first}", *(f"               {text}" for text in rest)]

    def _acknowledge(self, history: History, alert: str, now_us: int) -> None:
        try:
            one = alert_history.alert(history.connection, alert)
            action = acting.action_of(one, "ack", _WHO, "on the way with a new bearing", now_us)
            with closing(self._open_bus()) as bus:
                acting.send(bus, action)
        except (Refused, BusUnavailable):  # it is over, or he will be told again
            return
