"""`headwater demo`: a whole box with a simulated fleet, told in plain lines, ended by the audit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from headwater_appliance.audit import run_audit
from headwater_appliance.audit_influxql import Source
from headwater_appliance.box import Box
from headwater_appliance.demo_kafka import clients, kafka
from headwater_appliance.demo_person import Technician
from headwater_appliance.demo_registry import register
from headwater_appliance.demo_run import Ground, Run
from headwater_appliance.demo_settings import FAST, pace_of
from headwater_appliance.demo_stack import Stack, programs, stack
from headwater_appliance.demo_stack_end import settled, verdict
from headwater_appliance.demo_stack_story import StackStory
from headwater_appliance.demo_stand import Stand, cluster, one_box
from headwater_appliance.demo_story import told
from headwater_appliance.demo_where import place, where
from headwater_appliance.kafka_server import jars
from headwater_appliance.processes import memory_below
from headwater_appliance.story import Story
from headwater_appliance.supervise import Supervisor, end_with_parent, python
from headwater_appliance.tamper import tamper
from headwater_appliance.view import View
from headwater_appliance.watch_view import below_lines
from headwater_cloud.commands import bus_of
from headwater_cloud.query import iso, time_us
from headwater_cloud.settings import in_data
from headwater_edge import words
from headwater_edge.places import FILE, PLACE, SOCKET
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.errors import TryAgain
from headwater_shared.logs import configure
from headwater_shared.settings import load

FOLDER = Path(".demo")

_END_S = 14
"""Of the demo's time: for what is unacknowledged, the closing of the windows and the audit."""
_READY_S = 20.0
_ALL_READY_S = 60.0
"""... of seven processes at once."""
_DRAINED_S = 30.0
_STARTING = {
    "kafka": "starting Kafka, two workers and four agents",
    "stack": "starting Mosquitto, InfluxDB, Prometheus, Alertmanager and Kafka",
}
_INTERRUPTED = 130


def demo(
    seconds: int,
    *,
    tampered: bool = False,
    scenario: str = "pumps",
    scale: float | None = None,
    seed: int = 1,
    origin: str | None = None,
    ground: Ground = "box",
) -> int:
    """Run the demo for about so many seconds; return the audit's exit code.

    Args:
        seconds: of the whole; the start of Kafka and other servers comes on top.
        tampered: alter stored windows before the audit.
        scenario: a name, or a file.
        scale: another pace than the scenario's own.
        seed: of the fleet.
        origin: event time at which the fleet begins, ISO 8601; None: as late as it is then.
        ground: what it stands on.
    """
    pace = pace_of(scenario, scale, ground)
    run = Run(
        FOLDER.absolute(),
        max(15, seconds - _END_S),
        scenario,
        pace,
        seed,
        time_us(origin) if origin else None,
        ground,
        tampered,
    )
    run.told()  # a mistake is told before anything starts
    configure("text", "warning", part="demo")
    try:
        if ground == "stack":
            programs()
        if run.on_kafka:
            clients()
        found = jars() if run.on_kafka else None
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir()
        run = run.with_more()
        with (run.folder / "demo.log").open("wb") as out:
            if found is None:
                ended = asyncio.run(_on_one_box(run, out))
            else:
                ended = asyncio.run(_on_kafka(run, found, out))
    except TryAgain as error:
        print(f"headwater demo: {error}; see {run.folder / 'demo.log'}", flush=True)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", flush=True)
        return _INTERRUPTED
    return ended


def _judged(run: Run, stand: Stand, store: str = "") -> int:
    """Tell how it went, and audit it; with the address of a store that, too, and last."""
    data, ledger = stand.box.data, run.folder / "ledger"
    if run.tampered:
        for line in tamper(data / "cloud.db"):
            print(line, flush=True)
    for line in told(ledger, data, run.pace.scale, _patterns(stand.box)):
        print(line, flush=True)
    levels = step_settings(load(stand.agents[0].settings, "edge", EdgeSettings)).levels
    agents = [one.data / FILE for one in stand.agents]
    if not store:
        return run_audit(ledger, data, levels=levels, agents=agents)
    print("The cloud side's file:", flush=True)
    own = run_audit(ledger, data, levels=levels, agents=agents)
    print("InfluxDB (headwater audit --store):", flush=True)
    return run_audit(ledger, data, levels=levels, agents=agents, store=Source(store)) or own


def _patterns(box: Box) -> list[str]:
    return [one.name for one in box.cloud.pattern]


async def _on_one_box(run: Run, out: IO[bytes]) -> int:
    _cancel_on_signals()
    common = run.told()
    stand = one_box(run.folder, common)
    return await _shown(run, stand, common.clock, out) or _judged(run, stand)


async def _on_kafka(run: Run, jars: Path, out: IO[bytes]) -> int:
    _cancel_on_signals()
    print(_STARTING[run.ground], flush=True)
    async with contextlib.AsyncExitStack() as servers:
        around = None
        if run.ground == "stack":
            around = await servers.enter_async_context(stack(run.folder / "stack", _say))
        began = time.monotonic()
        bus = await servers.enter_async_context(kafka(run.folder / "kafka", jars))
        if around:  # it takes longest: whoever looks on must not think that it hangs
            _say(
                place(
                    "Kafka answers", f"after {time.monotonic() - began:.1f} s; now the agents and the workers"
                )
            )
        common, sites = run.told(), run.devices.sites
        behind = (around.broker.port, around.settings()) if around else ()
        stand = cluster(run.folder, common, sites, bus, *behind)
        return await _shown(run, stand, common.clock, out, around)


def _say(line: str) -> None:
    print(line, flush=True)


def _cancel_on_signals() -> None:
    """Let the first SIGINT or SIGTERM end what is going on; all that runs is ended on the way out, and another changes nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, cancel)


async def _shown(run: Run, stand: Stand, runs: str, out: IO[bytes], around: Stack | None = None) -> int:
    """Start everything, tell what happens until the fleet is done, close the windows, end everything."""
    clock = parse_clock(runs)
    fleet_of = run.devices
    register(stand.box.data, fleet_of, run.pace.devices or fleet_of.devices, clock.now().wall_us)
    supervisor = Supervisor(stand.parts, out=out)
    running = asyncio.ensure_future(supervisor.run())
    judged = 0
    fleet: asyncio.subprocess.Process | None = None
    view = View(stand.box)
    story = Story(view, run.folder / "ledger", stand.box.cloud.alerts.own)
    person = Technician(
        view, in_data(stand.box.common.data, stand.box.cloud.notifications), _patterns(stand.box),
        partial(bus_of, stand.box.settings),
    )  # fmt: skip
    news = [story.news, person.news]
    behind = StackStory(around, view) if around is not None else None
    if behind is not None:
        news.append(behind.news)
    try:
        places = await _ready(run, stand, running)
        if around is not None:
            around.scrape(places)
        print("\n".join(where(run, stand, places, around.lines() if around else ())), flush=True)
        began_us = clock.now().wall_us if run.origin_us is None else run.origin_us
        if run.pace.scale >= FAST:
            view.hours_since_us = began_us
        fleet = await _start_fleet(run, stand, runs, began_us, out)
        await _tell(stand.box, view, news, fleet, running, clock)
        ended_us = clock.now().wall_us
        await _drain(view, stand)
        _tell_news(news, clock)
        if around is not None and behind is not None:
            await settled(behind, ended_us, lambda: _tell_news(news, clock))
            said = await asyncio.to_thread(verdict, around, behind, ended_us, len(places))
            print(
                "\n".join(("Behind it:", *said.lines, *(f"  WRONG  {one}" for one in said.wrong))), flush=True
            )
            judged = 1 if said.wrong else 0
        if run.on_kafka:
            print(f"all of it together took {memory_below(os.getpid()) / 1e9:.2f} GB of memory", flush=True)
            # Rollups follow their windows by way of Kafka, and the store follows both: it is judged while all runs.
            judged = (
                await asyncio.to_thread(_judged, run, stand, around.store.url if around else "") or judged
            )
    finally:
        view.close()
        if fleet is not None and fleet.returncode is None:
            fleet.terminate()
            await fleet.wait()
        supervisor.stop()
        with contextlib.suppress(Exception):
            await running
    return supervisor.exit_code or judged


async def _ready(run: Run, stand: Stand, running: asyncio.Future[int]) -> dict[str, int]:
    """Wait until all say where they are; return their ports of health, by name."""
    wait_s = _ALL_READY_S if run.on_kafka else _READY_S
    wanted = {one.name: one.data / PLACE for one in stand.agents}
    wanted |= {process.name: process.place for process in stand.processes}
    found: dict[str, int] = {}
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and not running.done():
        for name, file in wanted.items():
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found[name] = msgspec.json.decode(file.read_bytes(), type=dict[str, int])["health"]
        if len(found) == len(wanted):
            return found
        await asyncio.sleep(0.1)
    missing = ", ".join(sorted(wanted.keys() - found.keys()))
    raise TryAgain(f"not ready after {wait_s:g} s: {missing}")


async def _start_fleet(
    run: Run, stand: Stand, clock: str, origin_us: int, out: IO[bytes]
) -> asyncio.subprocess.Process:
    pace, first = run.pace, stand.agents[0]
    ports = [f"--port-of={site}={one.port}" for one in stand.agents for site in one.sites]
    command = python(
        "headwater_firmware_sim", "run", "--scenario", run.fleet or run.scenario, "--port", str(first.port), *ports,
        "--ledger", str(run.folder / "ledger"),
        "--seed", str(run.seed), "--duration", str(run.fleet_s), "--json", "--clock", clock, "--origin", iso(origin_us),
        *(["--devices", str(pace.devices)] if pace.devices else []), *(["--rate", str(pace.rate)] if pace.rate else []),
    )  # fmt: skip
    return await asyncio.create_subprocess_exec(
        *command, stdout=out, stderr=out, start_new_session=True, preexec_fn=end_with_parent
    )


async def _tell(
    box: Box,
    view: View,
    told: Sequence[Callable[[int], list[str]]],
    fleet: asyncio.subprocess.Process,
    running: asyncio.Future[int],
    clock: Clock,
) -> None:
    """Print a line every few seconds (in a terminal keep the live view), and the story as it goes on, until the fleet is done."""
    began = time.monotonic()
    done = asyncio.ensure_future(fleet.wait())
    next_line = 2.0
    with below_lines(box) as draw:
        while not (done.done() or running.done()):
            await asyncio.wait({done}, timeout=0.5)
            _tell_news(told, clock)
            seconds = time.monotonic() - began
            if not draw() and seconds >= next_line:
                print(view.line(seconds, clock.now().wall_us), flush=True)
                # Who waits for the first readings is told each second.
                next_line = next_line + 4.0 if view.has_readings else seconds + 1.0
    if running.done():
        raise TryAgain("an agent or the cloud side ended")


def _tell_news(told: Sequence[Callable[[int], list[str]]], clock: Clock) -> None:
    for news in told:
        for line in news(clock.now().wall_us):
            print(line, flush=True)


async def _drain(view: View, stand: Stand) -> None:
    """Close every window, and wait until the cloud side has all of it."""
    print("the fleet is done; closing the windows", flush=True)
    for one in stand.agents:
        words.say(one.data / SOCKET, "flush")
    deadline = time.monotonic() + _DRAINED_S
    while time.monotonic() < deadline:
        status = view.agent()
        if status and not status["outbox"]:
            return
        await asyncio.sleep(0.2)
    raise TryAgain(f"the cloud side does not have everything after {_DRAINED_S:g} s")
