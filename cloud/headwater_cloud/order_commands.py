"""The command `command send`, of `headwater-cloud` and of `headwater` on one box."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from contextlib import closing
from typing import Annotated, Any

import msgspec
import typer

from headwater_cloud.commands import SettingsFile, bus_of
from headwater_cloud.history import History
from headwater_cloud.ordering import agent_of, check, end_of, send
from headwater_cloud.query import iso
from headwater_cloud.settings import CloudSettings, in_data
from headwater_cloud.views import CommandView
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.errors import SettingsError
from headwater_shared.orders import NAME
from headwater_shared.records import Order
from headwater_shared.settings import Common, duration, load

app = typer.Typer(no_args_is_help=True, help="Order a device to do something.")


@app.callback()
def command() -> None:
    """Order a device to do something."""


@app.command("send")
def send_(
    device: Annotated[str, typer.Argument(help="SITE/DEVICE")],
    name: Annotated[str, typer.Argument(help="What it is to do: shut, for example.")],
    arguments: Annotated[str, typer.Option(help="""A JSON object: '{"valve": 2}'.""")] = "{}",
    ttl: Annotated[str, typer.Option(help="After so long it is not done any more; at most 7d.")] = "10m",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end; exit code 1 if it is not done.")
    ] = False,
    agent: Annotated[
        str, typer.Option(help="The agent that serves the device; the one that is known to, without it.")
    ] = "",
    id_: Annotated[
        str, typer.Option("--id", help="Its id; one that was sent before is the same command.")
    ] = "",
    who: Annotated[str, typer.Option(help="Who asks for it; you, without it.")] = "",
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Order a command for a device, through the agent that serves it; `commands` shows what becomes of it.

    It is sent to the device until the device answers or its time to live is over, whatever crashes meanwhile, and done once by a
    device that honours its id.
    """
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    clock = clock_of(common)
    order = Order(
        agent, id_ or secrets.token_hex(16), device, name, arguments, duration(ttl), clock.now().wall_us, who[:NAME] or me()
    )  # fmt: skip
    check(order)
    file = in_data(common.data, cloud.file)
    history = History(file) if wait or not agent else None
    if history is not None and not agent:
        order = msgspec.structs.replace(order, agent=agent_of(history, device))
    with closing(bus_of(settings)) as bus:
        send(bus, order)
    if not as_json:
        until = iso(order.time_us + order.ttl_us)
        print(f"ordered: {name} for {device}, through agent {order.agent}, until {until}; id {order.id}")
    end = end_of(history, order, clock) if wait and history is not None else None
    if as_json:
        print(msgspec.json.encode(_told(order, end)).decode())
    elif end is not None:
        print(end.status + (f": {end.reason}" if end.reason else ""))
    if end is not None and end.status not in ("done", "undone"):
        raise typer.Exit(1)


def _told(order: Order, end: CommandView | None) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.structs.asdict(order) | {"arguments": msgspec.json.decode(order.arguments)}
    return said | {"status": end.status if end else "sent", "reason": end.reason if end else ""}


def clock_of(common: Common) -> Clock:
    """Return the clock that the processes go by.

    Raises:
        SettingsError: it is scaled from a moment that only they know.
    """
    text = os.environ.get("HEADWATER_CLOCK", common.clock)
    if text.startswith("scaled:") and "@" not in text:
        raise SettingsError(
            f'clock = "{text}" begins when the processes start, so nobody else knows what time it is there',
            hint=f'name the moment: clock = "{text}@2026-11-26T08:00:00Z"',
        )
    return parse_clock(text)


def me() -> str:
    """Return who asks, as far as the machine knows."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[:NAME]
    except (KeyError, OSError):  # a container's user has no name
        return f"{os.getuid()}@{socket.gethostname()}"[:NAME]
