"""The plan of one run: which scenario, seed, origin and how long; it and nothing else decides the readings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from headwater_firmware_sim import scenario as scenarios
from headwater_firmware_sim.absence import clock_of
from headwater_firmware_sim.faults import Simple, spread
from headwater_firmware_sim.scenario import Scenario
from headwater_shared.errors import SettingsError
from headwater_shared.ledger_writer import Ledger
from headwater_shared.settings import duration

FOREVER_US = 1 << 62


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All times in microseconds of event time, which runs `scale` times as fast as the wall clock.

    At scale S a device samples every S event seconds and faults last S times as long, so that the rate on the wall and
    the number of samples in a fault stay.
    """

    name: str
    scenario: Scenario
    seed: int
    devices: int
    period_us: int
    """Between two samples of a device."""
    origin_us: int
    end_us: int
    """No sample is at or after it."""
    scale: float = 1.0
    misbehave: bool = True
    faults_of: dict[str, list[Simple]] = {}
    """By the device that has them."""

    def fault_interval(self, fault: Simple) -> tuple[int, int]:
        """Return the exact begin (included) and end (excluded) of a fault."""
        from_us = self.origin_us - round(duration(fault.before) * self.scale)
        begin, end = (from_us + round(duration(text) * self.scale) for text in (fault.begin, fault.end))
        return begin, end

    def faults(self) -> list[Simple]:
        """Return the faults of the devices that take part."""
        names = {self.scenario.device_name(index) for index in range(self.devices)}
        return [fault for name, faults in self.faults_of.items() if name in names for fault in faults]

    @property
    def lives_us(self) -> int:
        """How long a device lives, 0 for ever."""
        return round(duration(self.scenario.lives) * self.scale)

    @property
    def members(self) -> int:
        """How many devices there are in the course of the run; `devices` of them at once."""
        if not self.lives_us:
            return self.devices
        return self.devices * (1 + -(-min(self.end_us - self.origin_us, FOREVER_US >> 1) // self.lives_us))

    def life(self, index: int) -> tuple[int, int]:
        """Return from when (included) to when (excluded) a device lives; one after the other they give way to new ones."""
        if not self.lives_us:
            return self.origin_us, self.end_us
        generation, place = divmod(index, self.devices)
        begin = (
            self.origin_us + (generation - 1) * self.lives_us + self.lives_us * (place + 1) // self.devices
        )
        return max(begin, self.origin_us), min(begin + self.lives_us, self.end_us)

    @property
    def readings_a_second(self) -> float:
        """What the fleet sends when all is well, by the wall clock."""
        return self.devices * len(self.scenario.metrics) * 1e6 * self.scale / self.period_us


def make(
    name: str,
    *,
    seed: int,
    origin_us: int,
    seconds: float | None,
    devices: int | None = None,
    sites: Sequence[str] = (),
    rate: float | None = None,
    scale: float = 1.0,
    misbehave: bool = True,
) -> Plan:
    """Plan a run.

    Args:
        name: a scenario that ships with the package, or a file.
        seed: of everything that looks random.
        origin_us: event time at which the run and its faults begin to count.
        seconds: how long it lasts by the wall clock; None until it is ended.
        devices: how many take part, if not as many as the scenario has.
        sites: where they are, if not where the scenario has them; so that each of several fleets has a site of its own.
        rate: readings a second of the whole fleet, if not as the scenario says.
        scale: how much faster than the wall clock event time runs.
        misbehave: whether devices do what `[scenario.misbehaviour]` says.

    Raises:
        SettingsError: the scenario is wrong, or a number makes no sense.
    """
    found = scenarios.read(name, sites)
    count = found.devices if devices is None else devices
    if not 1 <= count <= found.devices:
        raise SettingsError(
            f"the scenario {name!r} has {found.devices} devices, not {count}",
            hint=f"ask for 1 to {found.devices}, or set devices in a scenario of your own",
        )
    period_us = duration(found.period)
    if rate is not None:
        period_us = round(count * len(found.metrics) * 1e6 / rate) if rate > 0 else 0
    period_us = round(period_us * scale)
    if period_us < 1:
        raise SettingsError(
            f"a rate of {rate} readings a second cannot be kept", hint="ask for a smaller one above 0"
        )
    if duration(found.lives) and seconds is None:
        raise SettingsError(
            f"the devices of {name!r} have lives, so the run must end", hint="say how long, by --duration"
        )
    lasts_us = FOREVER_US if seconds is None else round(seconds * scale * 1e6)
    faults_of: dict[str, list[Simple]] = {}
    sites_of = {found.device_name(index): found.site(index) for index in range(found.devices)}
    for fault in spread(found.faults, sites_of):
        faults_of.setdefault(fault.device, []).append(fault)
    return Plan(
        name=name,
        scenario=found,
        seed=seed,
        devices=count,
        period_us=period_us,
        origin_us=origin_us,
        end_us=min(FOREVER_US, origin_us + lasts_us),
        scale=scale,
        misbehave=misbehave,
        faults_of=faults_of,
    )


def enter(plan: Plan, book: Ledger) -> Plan:
    """Write the plan into a new ledger, or go on with the run that the ledger holds, from that one's origin.

    Raises:
        SettingsError: the ledger is of another run.
    """
    wanted = _identity(plan)
    if book.run is None:
        book.begin(
            {**wanted, "origin_us": plan.origin_us},
            [
                *(_fault_record(plan, fault) for fault in plan.faults()),
                *_clock_records(plan),
                *_network_records(plan),
            ],
        )
        return plan
    must_be_of(book, wanted)
    moved = book.run["origin_us"] - plan.origin_us
    end_us = plan.end_us if plan.end_us == FOREVER_US else plan.end_us + moved
    return msgspec.structs.replace(plan, origin_us=book.run["origin_us"], end_us=end_us)


def must_be_of(book: Ledger, wanted: dict[str, Any]) -> None:
    """Check that a ledger is of the run that this one is.

    Raises:
        SettingsError: it is of another one.
    """
    has = book.run or {}
    for key, value in wanted.items():
        if has.get(key) != value:
            raise SettingsError(
                f"the ledger is of a run with {key} = {has.get(key)!r}, this one has {value!r}",
                hint="name a new ledger, or repeat the options of the run that it belongs to",
            )


def _identity(plan: Plan) -> dict[str, Any]:
    """Name all that decides the readings, but for the origin."""
    content = hashlib.sha256(msgspec.json.encode(plan.scenario)).hexdigest()[:16]
    return {
        "scenario": plan.name,
        "content": content,
        "seed": plan.seed,
        "devices": plan.devices,
        "period_us": plan.period_us,
        "scale": plan.scale,
        "misbehave": plan.misbehave,
    }


def _fault_record(plan: Plan, fault: Simple) -> dict[str, Any]:
    begin_us, end_us = plan.fault_interval(fault)
    clock = clock_of(plan.scenario.clocks, fault.device)
    if clock is not None:  # as the device stamps it: nobody else knows any better
        begin_us, end_us = (clock.shown_us(t, plan.origin_us, plan.scale) for t in (begin_us, end_us))
    body: dict[str, Any] = msgspec.to_builtins(fault)
    index = next(i for i in range(plan.devices) if plan.scenario.device_name(i) == fault.device)
    return {**body, "site": plan.scenario.site(index), "begin_us": begin_us, "end_us": end_us}


def _clock_records(plan: Plan) -> Iterator[dict[str, Any]]:
    """Name the clocks that begin in 1970, by the times that they show meanwhile."""
    for index in range(plan.devices):
        name = plan.scenario.device_name(index)
        clock = clock_of(plan.scenario.clocks, name)
        lasts_us = round(duration(clock.boots) * plan.scale) if clock is not None else 0
        if clock is not None and lasts_us:
            begin_us = clock.shown_us(plan.origin_us, plan.origin_us, plan.scale)
            yield {"kind": "clock-1970", "site": plan.scenario.site(index), "device": name, "metric": "", "begin_us": begin_us, "end_us": begin_us + lasts_us}  # fmt: skip


def _network_records(plan: Plan) -> Iterator[dict[str, Any]]:
    """Name what the network does: a cut is an outage of each site that it concerns, or of the devices named there."""
    scenario = plan.scenario
    places = [(scenario.site(index), scenario.device_name(index)) for index in range(plan.devices)]
    for trouble in scenario.network:
        begin_us, end_us = trouble.interval_us(plan.origin_us, plan.scale)
        kind = "outage" if trouble.kind == "cut" else f"network-{trouble.kind}"
        concerned = [place for place in places if trouble.concerns(*place)]
        if trouble.device == "*":
            concerned = [(site, "") for site in dict.fromkeys(site for site, _ in concerned)]
        for site, device in concerned:
            yield {"kind": kind, "site": site, "device": device, "metric": "", "begin_us": begin_us, "end_us": end_us}  # fmt: skip
