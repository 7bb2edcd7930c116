"""The map: the way of a simulated reading, from a scenario to the ledger and the socket.

scenario     which devices there are, what they measure, what breaks
signals      how each quantity moves
faults       what is wrong with it, from an exact begin to an exact end
absence      clocks that are off, devices that were away
network      what the network does, and when
plan         one run of a scenario: seed, origin, how long
csv_times, csv_mapping, csv_table    anybody's readings, and what they are
replay       a run of them
device       samples and messages of one device
misbehave    its script: copies, disorder, unreadable payloads, lost connections, reboots
reactions    what devices do with commands
orders       the commands of one device, each executed once
flash        what it keeps until it is acknowledged; the ledger is where
roster       every device, new or taken up again from the ledger
packets      MQTT as bytes
server       whom the devices speak to
link         one device's socket and session, or
http_link    one that posts by HTTP
road         what the network does to it on the way
open_files   room for so many sockets
fleet        one asyncio process for all of them, or
paho_fleet   a paho-mqtt client for each
ending       when a run is over
tally        what happened so far
server_options, show_commands, replay_commands    what its parts share
cli          the command
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.fleet import Fleet
from headwater_firmware_sim.link import Link
from headwater_firmware_sim.open_files import make_room
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.replay import Replay
from headwater_firmware_sim.roster import Member, muster
from headwater_firmware_sim.server import Server
from headwater_firmware_sim.tally import Tally
from headwater_shared.clock import Clock, RealClock
from headwater_shared.errors import SettingsError
from headwater_shared.ledger_writer import Ledger

Driver = Literal["asyncio", "paho", "http"]


class Result(NamedTuple):
    """What became of a run."""

    plan: Plan
    """As the ledger has it: of a run that was taken up again, with its first origin."""
    tally: Tally
    unacknowledged: int
    """Messages that a device still keeps; the ledger names them."""
    unsent: bool
    """Whether a part of the plan was not sent at all."""

    @property
    def complete(self) -> bool:
        return not self.unacknowledged and not self.unsent


def run(
    plan: Plan,
    server: Server,
    ledger: Path,
    *,
    driver: Driver = "asyncio",
    clock: Clock | None = None,
    paced: bool = True,
    drain_s: float = 30.0,
    stop: threading.Event | None = None,
    each_second: Callable[[Tally], None] | None = None,
) -> Result:
    """Run a fleet against an MQTT server, with the truth kept in `ledger`; blocks until it is over.

    A ledger that holds a part of the run already is taken up: what is not acknowledged is sent again, then the rest.

    Args:
        plan: what to send.
        server: where to.
        ledger: its path; made if it is not there.
        driver: `asyncio` for any size, `paho` for a few devices on a real client library, `http` for devices that post.
        clock: event time; the real one by default.
        paced: whether each sample waits for its time; if not, it is sent as soon as its device may.
        drain_s: seconds after the end for what is not acknowledged yet.
        stop: set it, from any thread, to end early.
        each_second: told the counts once a second.

    Raises:
        SettingsError: the ledger is of another run, or the server refuses a device.
        StateError: the ledger cannot be used.
    """

    def prepare(book: Ledger) -> tuple[Plan, list[Member]]:
        entered = plans.enter(plan, book)
        return entered, muster(entered, book, clock)

    return _run(plan, prepare, server, ledger, driver, clock, drain_s, stop, each_second, paced=paced)


def replay(
    what: Replay,
    server: Server,
    ledger: Path,
    *,
    driver: Driver = "asyncio",
    drain_s: float = 30.0,
    stop: threading.Event | None = None,
    each_second: Callable[[Tally], None] | None = None,
) -> Result:
    """Send a table of readings as `run` sends a plan; arguments and errors are the same."""
    return _run(
        what.plan, what.prepare, server, ledger, driver, None, drain_s, stop, each_second, paced=what.paced
    )


def _run(
    plan: Plan,
    prepare: Callable[[Ledger], tuple[Plan, list[Member]]],
    server: Server,
    ledger: Path,
    driver: Driver,
    clock: Clock | None,
    drain_s: float,
    stop: threading.Event | None,
    each_second: Callable[[Tally], None] | None,
    *,
    paced: bool,
) -> Result:
    """Drive what `prepare` makes of the ledger."""
    stop = stop or threading.Event()
    clock = clock or RealClock()
    if driver == "paho" and (plan.scenario.network or plan.lives_us):
        raise SettingsError(
            f"the driver paho knows neither the network scripts nor the lives of {plan.name!r}",
            hint="leave --driver away: asyncio knows both",
        )
    make_room(plan.devices)
    with Ledger(ledger) as book:
        plan, members = prepare(book)
        if driver == "paho":
            from headwater_firmware_sim.paho_fleet import PahoFleet  # an extra: only where it is asked for

            clients = PahoFleet(plan, members, server, book, clock, paced=paced)
            clients.run(drain_s, stop, each_second)
            return Result(plan, clients.tally, clients.unacknowledged, clients.unsent)
        link = Link
        if driver == "http":
            from headwater_firmware_sim.http_link import link_of  # imports an extra, too

            link = link_of(plan)
        fleet = Fleet(plan, members, server, book, clock, paced=paced, link=link)
        asyncio.run(fleet.run(drain_s, stop, each_second))
        return Result(plan, fleet.tally, fleet.unacknowledged, fleet.unsent)


def burst(
    host: str,
    port: int,
    ledger: Path,
    *,
    scenario: str = "pumps",
    devices: int = 5,
    samples: int = 20,
    seed: int = 1,
    origin_us: int | None = None,
    misbehave: bool = False,
    version: int = 4,
    qos: int = 1,
    in_flight: int = 20,
    driver: Driver = "asyncio",
    drain_s: float = 30.0,
    user: str = "",
    password: str = "",
    ca: str = "",
    stop: threading.Event | None = None,
) -> Result:
    """Send a bounded number of samples of a few devices as fast as they are acknowledged: a fleet for tests.

    The samples' times lie before now unless `origin_us` says where they begin, so that no agent takes them for the future.

    Raises:
        SettingsError, StateError: as `run`.
    """
    draft = plans.make(scenario, seed=seed, origin_us=0, seconds=0, devices=devices, misbehave=misbehave)
    lasts_us = samples * draft.period_us
    begin_us = time.time_ns() // 1000 - lasts_us if origin_us is None else origin_us
    plan = plans.make(
        scenario, seed=seed, origin_us=begin_us, seconds=lasts_us / 1e6, devices=devices, misbehave=misbehave
    )
    server = Server(
        host=host,
        port=port,
        version=version,
        qos=qos,
        in_flight=in_flight,
        user=user,
        password=password,
    )
    return run(plan, server, ledger, driver=driver, paced=False, drain_s=drain_s, stop=stop)
