"""`headwater demo`: a whole box with a simulated fleet, told in plain lines, ended by the audit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import IO

import msgspec

from headwater_appliance.audit import run_audit
from headwater_appliance.demo_settings import FAST, Pace, clock_of, pace_of, settings_of
from headwater_appliance.demo_story import told
from headwater_appliance.ports import steady_port
from headwater_appliance.story import Story
from headwater_appliance.supervise import Supervisor, end_with_parent, python
from headwater_appliance.tamper import tamper
from headwater_appliance.up import parts
from headwater_appliance.view import View
from headwater_appliance.watch_view import below_lines
from headwater_cloud.query import iso
from headwater_edge import words
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_firmware_sim import scenario as scenarios
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.errors import Refused, TryAgain
from headwater_shared.logs import configure
from headwater_shared.settings import load

FOLDER = Path(".demo")

_END_S = 14
"""Of the demo's time: for what is unacknowledged, the closing of the windows and the audit."""
_READY_S = 20.0
_DRAINED_S = 30.0


def demo(seconds: int, *, tampered: bool = False, scenario: str = "pumps", scale: float | None = None) -> int:
    """Run the demo for about so many seconds; return the audit's exit code. `scale`: another pace than the scenario's own."""
    pace = pace_of(scenario, scale)
    folder = FOLDER.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    configure("text", "warning", part="demo")
    with (folder / "demo.log").open("wb") as out:
        ended = asyncio.run(_box(folder, max(15, seconds - _END_S), scenario, pace, out))
    if ended:
        return ended
    if tampered:
        for line in tamper(folder / "data" / "cloud.db"):
            print(line, flush=True)
    for line in told(folder / "ledger", folder / "data", pace.scale):
        print(line, flush=True)
    levels = step_settings(load(folder / "headwater.toml", "edge", EdgeSettings)).levels
    return run_audit(folder / "ledger", folder / "data", levels=levels)


async def _box(folder: Path, fleet_s: int, scenario: str, pace: Pace, out: IO[bytes]) -> int:
    """Start everything, tell what happens until the fleet is done, close the windows, end everything."""
    settings, data = folder / "headwater.toml", folder / "data"
    runs = clock_of(pace)
    clock = parse_clock(runs)
    settings.write_text(settings_of(scenario, data, steady_port(), runs, pace.scale))
    supervisor = Supervisor(parts(settings), out=out)
    running = asyncio.ensure_future(supervisor.run())
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    fleet: asyncio.subprocess.Process | None = None
    view = View(data)
    story = Story(view, folder / "ledger")
    try:
        place = await _ready(data, running)
        _say_where(folder, data, place, scenario, pace, fleet_s)
        began_us = clock.now().wall_us
        if pace.scale >= FAST:
            view.hours_since_us = began_us
        fleet = await _start_fleet(folder, int(place["mqtt"]), fleet_s, scenario, pace, runs, began_us, out)
        await _tell(view, story, fleet, running, interrupted, clock)
        if interrupted.is_set():
            print("interrupted", flush=True)
            return 130
        await _drain(view, data, interrupted)
        if interrupted.is_set():
            print("interrupted", flush=True)
            return 130
        for line in story.news(clock.now().wall_us):
            print(line, flush=True)
    except TryAgain as error:
        print(f"headwater demo: {error}; see {folder / 'demo.log'}", flush=True)
        return 1
    finally:
        view.close()
        if fleet is not None and fleet.returncode is None:
            fleet.terminate()
            await fleet.wait()
        supervisor.stop()
        with contextlib.suppress(Exception):
            await running
    return supervisor.exit_code


async def _ready(data: Path, running: asyncio.Future[int]) -> dict[str, int]:
    """Wait until both sides say where they are."""
    deadline = time.monotonic() + _READY_S
    place: dict[str, int] = {}
    while time.monotonic() < deadline and not running.done():
        for side in ("edge", "cloud"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                said = msgspec.json.decode((data / f"{side}.json").read_bytes(), type=dict[str, int])
                place |= {name if name == "mqtt" else f"{side}-{name}": value for name, value in said.items()}
        if {"mqtt", "edge-health", "cloud-health"} <= place.keys():
            return place
        await asyncio.sleep(0.1)
    raise TryAgain(f"agent and cloud side are not ready after {_READY_S:g} s")


def _say_where(
    folder: Path, data: Path, place: dict[str, int], scenario: str, pace: Pace, seconds: int
) -> None:
    fleet = scenarios.read(scenario)
    hours = seconds * pace.scale / 3600
    fast = (
        f"\nTime runs {pace.scale:g} times as fast: {hours:.0f} hours in {seconds} s."
        if pace.scale != 1
        else ""
    )
    settings = os.path.relpath(folder / "headwater.toml")
    print(
        f"""Headwater demo: {pace.devices or fleet.devices} simulated {fleet.name}s on {len(fleet.sites)} sites send MQTT to an agent on this machine.{fast}
  devices connect to   mqtt://127.0.0.1:{place["mqtt"]}
  the agent            http://127.0.0.1:{place["edge-health"]}/health  and /metrics
  the cloud side       http://127.0.0.1:{place["cloud-health"]}/health  and /metrics
  what it stores       {os.path.relpath(data)}
  logs                 {os.path.relpath(folder / "demo.log")}
Meanwhile, in another terminal:
  .venv/bin/headwater query '{fleet.sites[0]}/*/{next(iter(fleet.metrics))}' --settings {settings} --last 3
  .venv/bin/headwater alerts --settings {settings}
  .venv/bin/headwater commands --settings {settings}
  .venv/bin/headwater-edge status --settings {settings}
""",
        flush=True,
    )


async def _start_fleet(
    folder: Path,
    port: int,
    seconds: int,
    scenario: str,
    pace: Pace,
    clock: str,
    origin_us: int,
    out: IO[bytes],
) -> asyncio.subprocess.Process:
    command = python(
        "headwater_firmware_sim", "run", "--scenario", scenario, "--port", str(port), "--ledger", str(folder / "ledger"),
        "--duration", str(seconds), "--json", "--clock", clock, "--origin", iso(origin_us),
        *(["--devices", str(pace.devices)] if pace.devices else []), *(["--rate", str(pace.rate)] if pace.rate else []),
    )  # fmt: skip
    return await asyncio.create_subprocess_exec(
        *command, stdout=out, stderr=out, start_new_session=True, preexec_fn=end_with_parent
    )


async def _tell(
    view: View,
    story: Story,
    fleet: asyncio.subprocess.Process,
    running: asyncio.Future[int],
    interrupted: asyncio.Event,
    clock: Clock,
) -> None:
    """Print a line every few seconds (in a terminal keep the live view), and the story as it goes on, until the fleet is done."""
    began = time.monotonic()
    done = asyncio.ensure_future(fleet.wait())
    stopped = asyncio.ensure_future(interrupted.wait())
    next_line = 2.0
    try:
        with below_lines(FOLDER / "headwater.toml") as draw:
            while not (done.done() or running.done() or interrupted.is_set()):
                await asyncio.wait({done, stopped}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
                for line in story.news(clock.now().wall_us):
                    print(line, flush=True)
                seconds = time.monotonic() - began
                if not draw() and seconds >= next_line:
                    next_line += 4.0
                    print(view.line(seconds, clock.now().wall_us), flush=True)
    finally:
        stopped.cancel()
    if running.done():
        raise TryAgain("agent or cloud side ended")


async def _drain(view: View, data: Path, interrupted: asyncio.Event) -> None:
    """Close every window, and wait until the cloud side has all of it."""
    print("the fleet is done; closing the windows", flush=True)
    words.say(data / "edge.sock", "flush")
    deadline = time.monotonic() + _DRAINED_S
    while time.monotonic() < deadline:
        if interrupted.is_set():
            return
        with contextlib.suppress(Refused):
            status = view.agent()
            if status and not status["outbox"]:
                return
        await asyncio.sleep(0.2)
    raise TryAgain(f"the cloud side does not have everything after {_DRAINED_S:g} s")
