"""A table of anybody's readings as the plan of a run: its devices are those of the table, its samples the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.csv_mapping import Mapping
from headwater_firmware_sim.csv_table import Table
from headwater_firmware_sim.device import Device, Sample
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.roster import Member, muster
from headwater_firmware_sim.scenario import Metric, Misbehaviour, Scenario
from headwater_shared.errors import SettingsError
from headwater_shared.ledger import Reading
from headwater_shared.ledger_writer import Ledger

HABITS = Misbehaviour(copies=0.005, disorder=0.005, unreadable=0.001, lost_connections=0.0005, reboots=0.0002)
"""What devices of a table do if they are to misbehave: as the pumps."""


class Replay(NamedTuple):
    """A table, and how it is sent."""

    plan: Plan
    table: Table
    content: str
    """Of the file and its mapping: another one is another run."""
    speed: float
    """How much faster than it was; 0: as fast as it is acknowledged."""
    to_now: bool
    """Whether times are moved, all by the same, so that the last reading is of the moment in which it is sent."""

    @property
    def paced(self) -> bool:
        return self.speed > 0

    def prepare(self, book: Ledger) -> tuple[Plan, list[Member]]:
        """Enter it into a ledger, or go on with what the ledger has of it.

        Raises:
            SettingsError: the ledger is of another run.
        """
        identity: dict[str, Any] = {
            "replay": self.plan.name,
            "content": self.content,
            "seed": self.plan.seed,
            "speed": self.speed,
            "to_now": self.to_now,
            "misbehave": self.plan.misbehave,
        }
        origin_us, moved_us = self.plan.origin_us, self._moved_us()
        if book.run is None:
            book.begin({**identity, "origin_us": origin_us, "moved_us": moved_us}, [])
        else:
            plans.must_be_of(book, identity)
            origin_us, moved_us = book.run["origin_us"], book.run["moved_us"]
        plan = msgspec.structs.replace(
            self.plan, origin_us=origin_us, end_us=self.plan.end_us + origin_us - self.plan.origin_us
        )
        places = list(self.table.devices)

        def make(plan: Plan, number: int, metric_ids: list[int]) -> Device:
            return ReplayDevice(plan, number, metric_ids, self, places[number], moved_us)

        return plan, muster(plan, book, make=make)

    def due_us(self, times: np.ndarray[Any, np.dtype[np.int64]], origin_us: int) -> list[int]:
        """Return when readings of these times are sent."""
        since = times - self.table.span_us[0]
        due: list[int] = (
            (origin_us + (since / self.speed if self.speed else since * 0)).astype(np.int64).tolist()
        )
        return due

    def _moved_us(self) -> int:
        if not self.to_now:
            return 0
        first, last = self.table.span_us
        if 0 < self.speed < 1:  # else the last ones would be of the future
            return self.plan.origin_us - first
        return self.due_us(np.array([last]), self.plan.origin_us)[0] - last


class ReplayDevice(Device):
    """One device of a table."""

    def __init__(
        self,
        plan: Plan,
        index: int,
        metric_ids: list[int],
        run: Replay,
        place: tuple[str, str],
        moved_us: int,
    ) -> None:
        super().__init__(plan, index, metric_ids)
        self.site, self.name = place
        self.topic = f"hw/{self.site}/{self.name}/data"
        self._times, self._values = run.table.devices[place]
        self._due = run.due_us(self._times, plan.origin_us)
        self._moved_us = moved_us

    def samples(self) -> Iterator[Sample]:
        """Yield the rows of the table; each is due at its `time_us`, and was at its `stamp_us`."""
        stamps = (self._times + self._moved_us).tolist()
        for due_us, stamp_us, values in zip(self._due, stamps, self._values.tolist(), strict=True):
            yield Sample(due_us, values, stamp_us)

    def messages(self, sample: Sample) -> list[tuple[Reading, ...]]:
        """Return the readings of each message that carries a row."""
        return super().messages(sample._replace(time_us=sample.stamp_us))


def replay_of(
    path: Path,
    mapping: Mapping,
    table: Table,
    *,
    origin_us: int,
    speed: float,
    to_now: bool,
    seed: int = 1,
    misbehave: bool = False,
) -> Replay:
    """Plan to send a table.

    Args:
        path, mapping, table: the file, what its columns are, and what it holds.
        origin_us: when the first reading is sent.
        speed: how much faster than it was; 0: as fast as it is acknowledged.
        to_now: move all times so that the last reading is of the moment in which it is sent.
        seed: of the misbehaviour.
        misbehave: whether devices misbehave, as the pumps do.

    Raises:
        SettingsError: a speed below nothing, or times that no clock has.
    """
    if speed < 0:
        raise SettingsError(
            f"a speed of {speed:g} goes back in time",
            hint="1 is as it was, 60 sixty times as fast, 0 at once",
        )
    first, last = table.span_us
    lasts_us = (last - first) / speed if speed else 0
    if lasts_us > plans.FOREVER_US // 2 or max(abs(first), abs(last)) > plans.FOREVER_US // 2:
        raise SettingsError(
            f"the times of {path} are farther apart than any clock", hint="look at its column of times"
        )
    steps = [np.diff(times) for times, _ in table.devices.values() if len(times) > 1]
    period = float(np.median(np.concatenate(steps))) if steps else 0.0
    scenario = Scenario(
        devices=len(table.devices),
        sites=sorted({site for site, _ in table.devices}),
        metrics={name: Metric(base=0.0, decimals=9) for name in table.metrics},
        misbehaviour=HABITS,
    )
    plan = Plan(
        name=path.name,
        scenario=scenario,
        seed=seed,
        devices=len(table.devices),
        period_us=max(1, round(period / speed) if speed else 1),
        origin_us=origin_us,
        end_us=origin_us + round(lasts_us) + 1,
        misbehave=misbehave,
    )
    shown = repr(
        (
            mapping.time,
            mapping.values,
            mapping.metric,
            mapping.device,
            mapping.site,
            list(table.devices)[:100],
        )
    )
    content = hashlib.sha256(path.read_bytes() + shown.encode()).hexdigest()[:16]
    return Replay(plan, table, content, speed, to_now)
