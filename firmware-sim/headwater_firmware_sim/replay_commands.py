"""`headwater-sim replay`: sends anybody's table of readings, and keeps its ledger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from headwater_firmware_sim import pipeline
from headwater_firmware_sim.csv_mapping import Wanted, guess
from headwater_firmware_sim.csv_table import name_of, read_table
from headwater_firmware_sim.replay import replay_of
from headwater_firmware_sim.server_options import (
    Ca,
    Certificate,
    Host,
    InFlight,
    Key,
    Mqtt,
    Password,
    Port,
    Qos,
    User,
    Version,
    server_of,
)
from headwater_firmware_sim.show_commands import (
    DriverName,
    end_with,
    ends_on_signals,
    progress,
    report,
)


def replay(
    file: Annotated[Path, typer.Argument(help="A CSV file; its first line names the columns.")],
    ledger: Annotated[
        Path | None, typer.Option(help="Where the truth is kept; an unfinished run in it is taken up.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Only show what the columns are taken for.")] = False,
    speed: Annotated[
        float,
        typer.Option(help="1: as fast as it was; 60: an hour in a minute; 0: as fast as it is acknowledged."),
    ] = 1.0,
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now", help="Move all times so that the last reading is of the moment it is sent in."
        ),
    ] = False,
    time_column: Annotated[
        str, typer.Option("--time", help="Column of the times; DATE+TIME: two of them.")
    ] = "",
    value: Annotated[
        list[str] | None, typer.Option(help="Column of values; again for each further one.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Column that names the metric: a row is one reading.")] = "",
    device: Annotated[str, typer.Option(help="Column that names the device.")] = "",
    site: Annotated[str, typer.Option(help="Column that names the site.")] = "",
    as_device: Annotated[
        str, typer.Option(help="Name of the device of rows that name none; that of the file by default.")
    ] = "",
    as_site: Annotated[str, typer.Option(help="Name of the site of rows that name none.")] = "csv",
    host: Host = "127.0.0.1",
    port: Port = 1883,
    misbehave: Annotated[bool, typer.Option(help="Whether devices misbehave, as the pumps do.")] = False,
    seed: Annotated[int, typer.Option(help="Of the misbehaviour.")] = 1,
    driver: Annotated[DriverName, typer.Option(help="asyncio, paho, or http to post.")] = DriverName.asyncio,
    mqtt: Mqtt = Version.v311,
    qos: Qos = 1,
    drain: Annotated[float, typer.Option(help="Seconds after the end for what is unacknowledged.")] = 30.0,
    in_flight: InFlight = 500,
    user: User = "",
    password: Password = "",
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    as_json: Annotated[bool, typer.Option("--json", help="Progress as a JSON object a line.")] = False,
) -> None:
    """Send a table of readings, one MQTT device a device of it. Exit code 0: all is acknowledged; 3: not all."""
    mapping = guess(file, Wanted(time_column, tuple(value or ()), metric, device, site))
    table = read_table(
        file, mapping, site=name_of(as_site) or "csv", device=name_of(as_device or file.stem) or "csv"
    )
    what = replay_of(
        file,
        mapping,
        table,
        origin_us=time.time_ns() // 1000,
        speed=speed,
        to_now=shift_to_now,
        seed=seed,
        misbehave=misbehave,
    )
    first, last = table.span_us
    names = [f"{site}/{name}" for site, name in table.devices]
    headline = (
        f"replay: {table.readings:,} readings of {len(names)} devices ({', '.join(names[:3])}{', ...' if names[3:] else ''}), "
        f"{(last - first) / 3.6e9:,.1f} h"
        + (f" in {(last - first) / 1e6 / speed:,.0f} s" if speed else "")
        + (f"; {table.skipped:,} rows without a time or a value are skipped" if table.skipped else "")
    )
    if not as_json:
        print("\n".join([f"{file}:", *mapping.lines(), headline]), flush=True)
    if show:
        return
    server = server_of(
        host=host,
        port=port,
        mqtt=mqtt,
        qos=qos,
        in_flight=in_flight,
        user=user,
        password=password,
        ca=ca,
        certificate=certificate,
        key=key,
    )
    kept = ledger or Path(f"{file.stem}.ledger")
    lasts = (last - first) / 1e6 / speed if speed else 0.0
    with ends_on_signals() as stop, progress("", len(names), lasts, as_json=as_json) as each_second:
        result = pipeline.replay(
            what, server, kept, driver=driver.value, drain_s=drain, stop=stop, each_second=each_second
        )
    report(result, kept, as_json=as_json)
    end_with(result, stop)
