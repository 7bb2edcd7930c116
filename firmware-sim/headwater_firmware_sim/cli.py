"""The command `headwater-sim`: runs a fleet of simulated devices against an MQTT server, and keeps its ledger."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headwater_firmware_sim import pipeline, replay_commands, scenario
from headwater_firmware_sim import plan as plans
from headwater_firmware_sim.server_options import (
    Ca,
    Certificate,
    Host,
    InFlight,
    KeepAlive,
    Key,
    Mqtt,
    Password,
    Port,
    PortOf,
    Qos,
    User,
    Version,
    server_of,
)
from headwater_firmware_sim.show_commands import (
    DriverName,
    end_with,
    ends_on_signals,
    headline,
    progress,
    report,
)
from headwater_shared.clock import parse_clock
from headwater_shared.errors import HeadwaterError, SettingsError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.command()(replay_commands.replay)


@app.command("scenarios")
def list_scenarios() -> None:
    """List the scenarios that ship with Headwater."""
    for name, path in scenario.names():
        print(f"{name:12} {scenario.read(name).about}  ({path})")


@app.command()
def run(
    ledger: Annotated[
        Path, typer.Option(help="Where the truth is kept; an unfinished run in it is taken up.")
    ],
    scenario: Annotated[
        str, typer.Option(help="A name from `headwater-sim scenarios`, or a file.")
    ] = "pumps",
    host: Host = "127.0.0.1",
    port: Port = 1883,
    port_of: PortOf = None,
    seed: Annotated[int, typer.Option(help="The same seed and origin give the same readings.")] = 1,
    origin: Annotated[
        str, typer.Option(help="Event time at which the run begins: ISO 8601, or now.")
    ] = "now",
    duration: Annotated[float, typer.Option(help="Seconds of sampling; 0: until a signal.")] = 90.0,
    devices: Annotated[int | None, typer.Option(help="How many devices, if not all.")] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Where they are, if not where the scenario has them.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Readings a second of the whole fleet.")] = None,
    driver: Annotated[
        DriverName, typer.Option(help="asyncio for any size, paho for a few, http to post.")
    ] = DriverName.asyncio,
    mqtt: Mqtt = Version.v311,
    qos: Qos = 1,
    misbehave: Annotated[bool, typer.Option(help="Whether devices do what the scenario says.")] = True,
    paced: Annotated[bool, typer.Option(help="Whether samples wait for their time.")] = True,
    clock: Annotated[
        str, typer.Option(help="real, or scaled:60@ORIGIN as all other processes have.")
    ] = "real",
    drain: Annotated[float, typer.Option(help="Seconds after the end for what is unacknowledged.")] = 30.0,
    in_flight: InFlight = 20,
    keep_alive: KeepAlive = 30,
    user: User = "",
    password: Password = "",
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    as_json: Annotated[bool, typer.Option("--json", help="Progress as a JSON object a line.")] = False,
) -> None:
    """Run a fleet. Exit code 0: all is acknowledged; 3: not all."""
    ticking = parse_clock(clock)
    began_us = ticking.now().wall_us if origin == "now" else _iso_us(origin)
    plan = plans.make(
        scenario,
        seed=seed,
        origin_us=began_us,
        seconds=duration or None,
        devices=devices,
        sites=site or (),
        rate=rate,
        scale=float(clock.partition(":")[2].partition("@")[0] or 1),
        misbehave=misbehave,
    )
    server = server_of(
        host=host,
        port=port,
        port_of=port_of or (),
        mqtt=mqtt,
        qos=qos,
        in_flight=in_flight,
        user=user,
        password=password,
        ca=ca,
        certificate=certificate,
        key=key,
        keep_alive=keep_alive,
    )
    with (
        ends_on_signals() as stop,
        progress(headline(plan), plan.devices, duration, as_json=as_json) as each_second,
    ):
        result = pipeline.run(
            plan,
            server,
            ledger,
            driver=driver.value,
            clock=ticking,
            paced=paced,
            drain_s=drain,
            stop=stop,
            each_second=each_second,
        )
    report(result, ledger, as_json=as_json)
    end_with(result, stop)


def main() -> None:
    """Run the command; an error that someone can act on is two lines and its exit code, not a traceback."""
    try:
        app()
    except HeadwaterError as error:
        print(f"headwater-sim: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _iso_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no time", hint="write 2026-11-24T00:00:00Z, or now") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e6)
