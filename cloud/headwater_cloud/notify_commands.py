"""`headwater notify`: try routes to people out, see what did not reach them, and have it tried again."""

from __future__ import annotations

import http.client
import os
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from headwater_cloud.commands import SettingsFile
from headwater_cloud.notify_file import FILE
from headwater_cloud.notify_list import Undelivered, undelivered
from headwater_cloud.notify_pages import HEADER, NOTIFY, PLACE
from headwater_cloud.notify_route import moment
from headwater_cloud.notify_settings import check_zones, read_routes
from headwater_cloud.notify_words import when
from headwater_cloud.settings import CloudSettings
from headwater_shared.clock import parse_clock
from headwater_shared.errors import Refused, TryAgain
from headwater_shared.settings import Common, load

app = typer.Typer(help="Notifications: routes to people, and what did not reach them.", no_args_is_help=True)

RouteName = Annotated[
    str, typer.Argument(help="Name of a route; every route without it.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]

_TIMEOUT_S = 120.0
_HEALTH_S = 5.0


@app.command("test")
def try_out(route: RouteName = "", settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Send a test by each route of the running cloud side, beside all that waits; exit code 1 if one did not arrive."""
    said = _asked(settings, "test", route)
    failed = [name for name, why in said["routes"].items() if why]
    if as_json:
        print(msgspec.json.encode(said).decode())
    else:
        for name, why in said["routes"].items():
            first, *more = (f"NOT delivered: {why}" if why else "delivered").splitlines()
            print(f"{name:<20} {first}", *(f"{'':<20} {line.strip()}" for line in more), sep="\n")
    raise typer.Exit(1 if failed else 0)


@app.command("list")
def list_(route: RouteName = "", settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show what waits, what failed and why, and when it is tried next; what was refused waits for `retry`, or a start."""
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    clock = parse_clock(os.environ.get("HEADWATER_CLOCK", common.clock))
    running = _running(Path(common.data), cloud)
    found = undelivered(
        Path(common.data) / FILE, read_routes(cloud.notify, cloud.notifications, secrets=False), check_zones(cloud.zones), moment(clock), running
    )  # fmt: skip
    found = [one for one in found if route in {"", one.route}]
    failing = {
        name: said  # what an Alertmanager is told stands in no list: the process that sends it says
        for name, said in running.items()
        if said["to"] == "alertmanager" and said["failing"] and route in {"", name}
    }
    if as_json:
        print(msgspec.json.encode({"undelivered": found, "failing": failing}).decode())
        return
    if not found and not failing:
        began = (Path(common.data) / FILE).exists()
        print(
            "everything was delivered"
            if began
            else f"nothing was told yet: no cloud side ran with the data folder {common.data}"
        )
    for one in found:
        print(*_lines(one, "the settings have" if settings else "without --settings there is"), sep="\n")
    for name, said in failing.items():
        since = when(said["failing_since_us"], UTC)
        waits = f"{said['waiting']} wait" if said["waiting"] != 1 else "1 waits"
        print(
            f"{name:<12} Alertmanager takes nothing since {since}: {said['failing']}; of alerts that changed {waits}, tried again by itself"
        )


@app.command()
def retry(route: RouteName = "", settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Have all that failed or was refused tried again now."""
    said = _asked(settings, "retry", route)
    print(msgspec.json.encode(said).decode() if as_json else f"{said['retried']} are tried again")


def _lines(one: Undelivered, there: str) -> list[str]:
    following = "" if one.next_us is None else f", next {when(one.next_us, UTC)}"
    what = {
        "gone": f"{there} no such route, and it goes nowhere; it is listed here for 30 days",
        "refused": "refused: `headwater notify retry` tries it again",
    }.get(one.state, f"{one.state}, {one.tries} tries{following}")
    return [
        f"{one.route:<12} {one.severity:<8} {one.subject}: {one.text}",
        f"{'':<12} since {when(one.since_us, UTC)}: {what}" + (f" ({one.why})" if one.why else ""),
    ]


def _running(data: Path, cloud: CloudSettings) -> dict[str, dict[str, Any]]:
    """Ask the process that sends notifications for its routes, and how they are: by name; nothing if it does not run."""
    try:
        port = int(msgspec.json.decode((data / PLACE).read_bytes())["health"])
        made = http.client.HTTPConnection(cloud.health_host, port, timeout=_HEALTH_S)
        made.request("GET", "/health")
        routes: dict[str, dict[str, Any]] = msgspec.json.decode(made.getresponse().read())["notify"]["routes"]
    except (OSError, http.client.HTTPException, msgspec.DecodeError, KeyError):
        return {}  # it says at its start what it cannot send
    return routes


def _asked(settings: Path | None, what: str, route: str) -> dict[str, Any]:
    """Ask the process that sends notifications.

    Raises:
        TryAgain: it does not run, or does not answer. Refused: there is no such route.
    """
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    try:
        port = int(msgspec.json.decode((Path(common.data) / PLACE).read_bytes())["health"])
        made = http.client.HTTPConnection(cloud.health_host, port, timeout=_TIMEOUT_S)
        made.request("POST", f"{NOTIFY}{what}?route={quote(route)}", b"", {HEADER: "headwater notify"})
        answer = made.getresponse()
        said: dict[str, Any] = msgspec.json.decode(answer.read())
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        raise TryAgain(
            "the cloud side does not run here, or does not answer", hint="start it: headwater up"
        ) from None
    if answer.status == 503:
        raise TryAgain(said["error"])
    if answer.status != 200:
        raise Refused(said["error"], hint="`headwater config show` shows the routes")
    return said
