"""The commands `headwater certs ...`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headwater_appliance import certs
from headwater_shared.clock import RealClock

app = typer.Typer(
    no_args_is_help=True, help="Make a small authority, and certificates for the agent and its devices."
)

Folder = Annotated[Path, typer.Option(help="Where they are kept; whoever has ca.key can make others.")]
Days = Annotated[int, typer.Option(min=1, help="How long it is good for.")]

_HERE = Path("certs")


@app.command()
def ca(
    folder: Folder = _HERE,
    name: Annotated[str, typer.Option(help="What it is called.")] = "Headwater CA",
    days: Days = certs.AUTHORITY_DAYS,
) -> None:
    """Make the authority that signs the others; devices are given its certificate, ca.pem."""
    made = certs.make_authority(folder, name, days, _now())
    _said(made)
    print(f"keep {made.key} where no device and no agent is: it makes certificates for all of them")


@app.command()
def server(
    names: Annotated[list[str], typer.Argument(help="Names and addresses that devices connect to.")],
    folder: Folder = _HERE,
    days: Days = certs.SERVER_DAYS,
) -> None:
    """Make the agent's certificate."""
    made = certs.make_server(folder, names, days, _now())
    _said(made)
    print(f'[edge.listener.tls]\ncertificate = "{made.certificate}"\nkey = "{made.key}"')


@app.command()
def device(
    names: Annotated[list[str], typer.Argument(help="Devices: pump-7, or north/pump-7 with its site.")],
    folder: Folder = _HERE,
    days: Days = certs.DEVICE_DAYS,
) -> None:
    """Make a certificate for each device; it speaks for the device of that name."""
    for name in names:
        _said(certs.make_device(folder, name, days, _now()))


def _said(made: certs.Written) -> None:
    print(f"wrote {made.certificate} and {made.key}, good until {made.ends:%Y-%m-%d}")


def _now() -> datetime:
    return datetime.fromtimestamp(RealClock().now().wall_us // 1_000_000, UTC)
