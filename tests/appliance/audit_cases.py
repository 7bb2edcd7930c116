"""A finished run to audit: readings in a real ledger, and the stores that they must have become."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from headwater_appliance.audit_stored import DeadLetter, Stored, Windows
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.digest import NO_TIME
from headwater_shared.ledger import COPY, Message, Reading
from headwater_shared.ledger_writer import Ledger
from headwater_shared.parts import tumbling
from tests import reference

T = 1_800_000_000_000_000  # the begin of a 10 s, 1 min, 10 min and 1 h window
DEVICES = ("north", "pump-1"), ("north", "pump-2"), ("south", "pump-3")
METRICS = ("flow", "pressure")
JUNK = ("hw/north/pump-1/data", b'{"t":1,"val')


def series(device: int, metric: int) -> str:
    return "/".join((*DEVICES[device], METRICS[metric]))


class Run:
    """Devices that sent samples of two metrics once a second, all acknowledged unless told otherwise."""

    def __init__(self, path: Path, samples: int = 90, devices: Sequence[int] = (0, 1, 2)) -> None:
        self.path = path
        self.book = Ledger(path)
        for site, name in DEVICES:
            self.book.device(site, name)
        for name in METRICS:
            self.book.metric(name)
        self.readings: list[tuple[str, int, float]] = []
        """Those that are acknowledged: what the windows must hold."""
        self._next = [0] * len(DEVICES)
        luck = random.Random(1)
        for number in range(samples):
            for device in devices:
                values = [round(luck.gauss(50, 5), 2), round(luck.gauss(-3, 1), 3)]
                self.send(device, T + number * 1_000_000 + device, values)

    def send(
        self, device: int, time_us: int, values: Sequence[float], *, known: bool = True, flags: int = 0
    ) -> int:
        """Send one message with a value for each metric; `known`: its acknowledgement came."""
        number = self._number(device)
        readings = tuple(Reading(metric, time_us, value) for metric, value in enumerate(values))
        self.book.sent(Message(device, number, readings, flags=flags))
        if known:
            self.book.acknowledged(device, number)
            if not flags & COPY:
                self.readings += [(series(device, m), time_us, value) for m, value in enumerate(values)]
        return number

    def junk(self, device: int = 0, payload: bytes = JUNK[1], *, known: bool = True) -> None:
        """Send something that nobody can read."""
        number = self._number(device)
        self.book.sent(Message(device, number, (), JUNK[0], payload))
        if known:
            self.book.acknowledged(device, number)

    def bare(self, device: int, value: float, *, known: bool = True, flags: int = 0) -> None:
        """Send a number without a time."""
        number = self._number(device)
        self.book.sent(Message(device, number, (Reading(0, NO_TIME, value),), flags=flags))
        if known:
            self.book.acknowledged(device, number)

    def close(self) -> Path:
        self.book.close()
        return self.path

    def _number(self, device: int) -> int:
        self._next[device] += 1
        return self._next[device] - 1


def stored(
    readings: Iterable[tuple[str, int, float]],
    dead: Iterable[tuple[str, bytes]] = (),
    stamped: Iterable[tuple[str, int, float]] = (),
) -> Stored:
    """The stores that hold exactly these readings, by the plain reference.

    `stamped`: readings that were sent without a time, with the one that the agent gave them; their digest is of none.
    """
    windows = reference.all_windows(readings)
    windows |= (free := reference.all_windows(stamped))
    for (name, level, start), window in free.items():
        end = start + reference.LEVELS[level]
        held = [value for other, time, value in stamped if other == name and start <= time < end]
        window.digest = sum(reference.digest(None, value) for value in held) % 2**64
    names = sorted({name for name, _, _ in windows})
    levels = []
    for level in reference.LEVELS:
        mine = [(name, start, window) for (name, of, start), window in windows.items() if of == level]
        levels.append(
            Windows(
                tumbling(level),
                np.array([names.index(name) for name, _, _ in mine], np.int64),
                np.array([start for _, start, _ in mine], np.int64),
                aggregates([window for _, _, window in mine]),
            )
        )
    return Stored(names, levels, [DeadLetter("bad-json", "", topic, body) for topic, body in dead])


def aggregates(windows: Sequence[reference.Window]) -> Aggregates:
    """Windows of the reference as columns."""
    rows = Aggregates.empty(len(windows))
    for name in COLUMNS:
        getattr(rows, name)[:] = [getattr(window, name) for window in windows]
    return rows
