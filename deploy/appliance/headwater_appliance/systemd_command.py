"""`headwater systemd`: the unit that runs a box as a service."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headwater_shared.errors import Refused


def systemd(
    settings: Annotated[
        Path | None, typer.Option("--settings", help="Settings file of the service.", dir_okay=False)
    ] = None,
    user: Annotated[
        str, typer.Option("--user", help="User that the service runs as; by default the one who asks.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")] = False,
) -> None:
    """Print a systemd unit for `headwater up`: started at boot, watched, reloaded by `systemctl reload`, and kept from all that it
    does not need. The first lines say how to install it.
    """
    from headwater_appliance.unit import unit
    from headwater_appliance.up import check

    if settings is None:
        raise Refused(
            "a service needs a settings file",
            hint="headwater init headwater.toml, then --settings headwater.toml",
        )
    checked = check(settings)
    listener = checked.edge.listener
    ports = [port for port in (listener.port, listener.tls.port, checked.edge.http.port) if port]
    text = unit(settings, Path(checked.common.data), user or getpass.getuser(), ports)
    print(msgspec.json.encode({"unit": text}).decode() if as_json else text, end="\n" if as_json else "")
