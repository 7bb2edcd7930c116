"""The command `headwater`: everything on one box."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from headwater_appliance import (
    anomalies_command,
    backup_commands,
    certs_commands,
    config_commands,
    devices_command,
    doctor_command,
    export_command,
    query_command,
    registry_commands,
    rules_commands,
    status_command,
    systemd_command,
    watch_command,
)
from headwater_cloud import alert_commands, commands, maintenance_commands, notify_commands, order_commands
from headwater_shared.errors import HeadwaterError
from headwater_shared.settings import Common, load

app = typer.Typer(help="Headwater on one box.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(query_command.query)
app.add_typer(alert_commands.alerts, name="alerts")
app.add_typer(alert_commands.incidents, name="incidents")
app.add_typer(maintenance_commands.app, name="maintenance")
app.command()(commands.commands)
app.add_typer(order_commands.app, name="command")
app.add_typer(notify_commands.app, name="notify")
app.command()(status_command.status)
app.command("devices")(devices_command.list_devices)
app.command()(anomalies_command.anomalies)
app.command()(doctor_command.doctor)
app.command()(export_command.export)
app.command()(watch_command.watch)
app.add_typer(certs_commands.app, name="certs")
app.add_typer(rules_commands.app, name="rules")
app.add_typer(registry_commands.app, name="registry")
app.add_typer(config_commands.app, name="config")
app.command()(systemd_command.systemd)
app.command()(backup_commands.backup)
app.command()(backup_commands.restore)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]


def main() -> None:
    """Run the command; an error that a person can act on is two lines, not a traceback."""
    try:
        app()
    except HeadwaterError as error:
        print(f"headwater: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("headwater.toml"),
) -> None:
    """Write a settings file: every key with its default and what it means."""
    from headwater_appliance.init import init as write

    write(file)
    print(f"wrote {file}; start with: headwater up --settings {file}")


@app.command()
def up(settings: SettingsFile = None) -> None:
    """Run agent and cloud side until a signal; what exits is started again.

    The first signal ends all cleanly, the second at once (exit code 130). SIGHUP: agent and cloud side read their settings again.
    Exit codes: 70: a part exited too often (up.restarts within up.within); 78: only a person can mend it, the message says how.
    """
    from headwater_appliance.up import up as run

    raise typer.Exit(run(settings))


@app.command()
def demo(
    seconds: Annotated[int, typer.Option(envvar="DEMO_SECONDS", help="About how long.")] = 90,
    tamper: Annotated[
        bool, typer.Option("--tamper", help="Alter two stored windows before the audit (or DEMO_TAMPER=1).")
    ] = False,
    scenario: Annotated[
        str, typer.Option(help="A name from `headwater-sim scenarios`, or a file.")
    ] = "pumps",
    scale: Annotated[
        float | None,
        typer.Option(min=1, help="How many times as fast time runs; by default as the scenario is told."),
    ] = None,
    seed: Annotated[
        int, typer.Option(envvar="DEMO_SEED", help="Of the fleet: the same seed and origin send the same.")
    ] = 1,
    origin: Annotated[
        str | None,
        typer.Option(envvar="DEMO_ORIGIN", help="Event time at which the fleet begins, ISO 8601; else now."),
    ] = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Four agents and two workers, with a real Kafka between.")
    ] = False,
    stack: Annotated[
        bool,
        typer.Option(
            "--stack", help="The same with Mosquitto, InfluxDB, Prometheus and Alertmanager around it."
        ),
    ] = False,
) -> None:
    """Show it: a fleet of simulated pumps, an agent, the cloud side, an alert, the audit."""
    from headwater_appliance.demo import demo as show

    raise typer.Exit(
        show(
            seconds,
            tampered=tamper or os.environ.get("DEMO_TAMPER") == "1",
            scenario=scenario,
            scale=scale,
            seed=seed,
            origin=origin,
            ground="stack" if stack else "kafka" if kafka else "box",
        )
    )


@app.command()
def audit(
    ledger: Annotated[Path, typer.Argument(help="The fleet's ledger.")],
    settings: SettingsFile = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; that of the settings without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The evidence as one JSON object.")] = False,
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="Hold what InfluxDB has, not what cloud.db has; the section cloud.influx says where.",
        ),
    ] = False,
    store_url: Annotated[
        str | None, typer.Option(help="Its address, if not that of the settings; implies --store.")
    ] = None,
) -> None:
    """Hold the stored windows against what the fleet sent: exit code 1 if anything is lost, twice or altered."""
    from headwater_appliance.audit import run_audit
    from headwater_appliance.audit_store import source_of
    from headwater_cloud.settings import CloudSettings
    from headwater_edge.settings import EdgeSettings, step_settings

    edge = step_settings(load(settings, "edge", EdgeSettings))
    some = {level.name: level.series for level in edge.some_levels}
    source = None
    if store or store_url:
        source = source_of(load(settings, "cloud", CloudSettings), store_url)
    raise typer.Exit(
        run_audit(
            ledger, data or folder(settings), levels=edge.levels, some=some, store=source, as_json=as_json
        )
    )


def folder(settings: Path | None) -> Path:
    """Return the data folder that the settings name."""
    common = load(settings, "common", Common)
    return Path(common.data)
