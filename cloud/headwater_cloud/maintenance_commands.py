"""The command `maintenance`: times in which nobody is told of a site's or device's alerts."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from headwater_cloud import maintenance
from headwater_cloud.alert_commands import Who, Why
from headwater_cloud.commands import AsJson, SettingsFile
from headwater_cloud.maintenance import Planned
from headwater_cloud.notify_hours import Zones, zone_of
from headwater_cloud.order_commands import clock_of, me
from headwater_cloud.query import iso
from headwater_cloud.settings import CloudSettings
from headwater_shared.errors import Refused
from headwater_shared.parts import length_name
from headwater_shared.settings import Common, duration, load

app = typer.Typer(
    no_args_is_help=True, help="Times in which nobody is told of a site's or device's alerts; they are in the list all the same."
)  # fmt: skip

_S_US = 1_000_000


@app.command()
def add(
    subject: Annotated[str, typer.Argument(help="SITE/DEVICE, or all of a site: 'SITE/*'; * and ? match any text, quote them.")],
    for_: Annotated[str, typer.Option("--for", help="How long: 30m, 4h, 2d.")],
    begin: Annotated[
        str, typer.Option("--from", help="From when, by the clock on the wall of the site: 2026-11-29T22:00; from now on, without it.")
    ] = "",
    zone: Annotated[str, typer.Option(help="Whose clock, an IANA name such as Europe/Berlin; that of cloud.zones, without it.")] = "",
    repeat: Annotated[Literal["", "daily", "weekly"], typer.Option(help="Again every day or week, at the same local time.")] = "",
    last: Annotated[str, typer.Option(help="The last day that it repeats: 2026-12-31.")] = "",
    why: Why = "", who: Who = "", settings: SettingsFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add a time of maintenance. What still fires when it is over is told then."""
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    site = subject.partition("/")[0]
    of_site = Zones(cloud.zones).of(site)
    place = zone_of("--zone", zone) if zone else of_site
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock_of(common).now().wall_us)
    local = begin or now.astimezone(place).replace(second=0, microsecond=0, tzinfo=None).isoformat()
    one = Planned(subject, local, str(place), duration(for_), repeat, last, who or me(), why)
    at = secrets.token_hex(4)
    maintenance.check("maintenance", one)
    if datetime.fromisoformat(local).tzinfo is not None:
        raise Refused(
            f"{local} names a zone of its own",
            hint=f"write the time that the clock at {site} shows: 2026-11-29T22:00",
        )
    with maintenance.changed(_file(common)) as known:
        known[at] = one
    if as_json:
        print(json.dumps({"id": at, **msgspec.to_builtins(one)}))
    else:
        again = f", {one.repeat}" if one.repeat else ""
        print(
            f"{at}: {one.subject} from {one.begin} ({one.zone}) for {for_}{again}; `maintenance remove {at}` takes it back"
        )


@app.command("list")
def list_(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show what is planned, and the next times that it comes to."""
    common = load(settings, "common", Common)
    known = maintenance.read(_file(common))
    now_us = clock_of(common).now().wall_us
    coming = [one for one in maintenance.times(known, now_us) if one.end_us > now_us]
    if as_json:
        print(json.dumps({"planned": msgspec.to_builtins(known), "times": msgspec.to_builtins(coming)}))
        return
    if not known:
        print("no maintenance; `maintenance add 'SITE/*' --for 4h --from 2026-11-29T22:00` adds one")
    for at, one in known.items():
        again = f", {one.repeat}" + (f" until {one.last}" if one.last else "") if one.repeat else ""
        long = length_name(max(one.for_us // _S_US, 1) * _S_US)
        print(
            f"{at}  {one.subject}  from {one.begin} ({one.zone}) for {long}{again}  {one.who}  {one.why}".rstrip()
        )
        mine = [time for time in coming if time.id.partition("@")[0] == at]
        if not mine:
            print("          none within a week")
        for time in mine[:3]:
            now = "NOW  " if time.begin_us <= now_us else ""
            print(f"          {now}{iso(time.begin_us)} to {iso(time.end_us)}")


@app.command()
def remove(
    at: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `maintenance list` shows it.")],
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a time of maintenance back; what fires is told then."""
    with maintenance.changed(_file(load(settings, "common", Common))) as known:
        one = known.pop(at, None)
        if one is None:
            raise Refused(
                f"there is no maintenance {at!r}", hint="`maintenance list` shows all; nothing was changed"
            )
    print(json.dumps({"removed": at}) if as_json else f"removed {at}: {one.subject} from {one.begin}")


def _file(common: Common) -> Path:
    return Path(common.data) / maintenance.FILE
