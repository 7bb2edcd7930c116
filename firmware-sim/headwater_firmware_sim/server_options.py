"""The options by which every command that runs a fleet is told its server, and the server that they make."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from headwater_firmware_sim import packets
from headwater_firmware_sim.server import Server, tls_context
from headwater_shared.errors import SettingsError
from headwater_shared.settings import secret


class Version(StrEnum):
    """MQTT versions."""

    v311 = "3.1.1"
    v5 = "5"


Host = Annotated[str, typer.Option(help="The MQTT server.")]
Port = Annotated[int, typer.Option(help="Its port.")]
PortOf = Annotated[
    list[str] | None,
    typer.Option(help="SITE=PORT, more than once: devices of that site connect to another port."),
]
Mqtt = Annotated[Version, typer.Option(help="MQTT version.")]
Qos = Annotated[int, typer.Option(min=1, max=2, help="QoS of what is published: 1 or 2.")]
InFlight = Annotated[int, typer.Option(min=1, max=65_535, help="Unacknowledged messages a device.")]
KeepAlive = Annotated[int, typer.Option(min=0, max=65_535, help="Seconds.")]
User = Annotated[str, typer.Option(help="User at the server.")]
Password = Annotated[str, typer.Option(help="env:NAME or file:PATH, never the password itself.")]
Ca = Annotated[str, typer.Option(help="Speak TLS; the file of the server's authority (PEM).")]
Certificate = Annotated[str, typer.Option(help="The devices' own certificate, for all of them (PEM).")]
Key = Annotated[str, typer.Option(help="Its key (PEM).")]


def server_of(
    *,
    host: str,
    port: int,
    mqtt: Version,
    qos: int,
    in_flight: int,
    user: str,
    password: str,
    ca: str,
    certificate: str,
    key: str,
    keep_alive: int = 30,
    port_of: Sequence[str] = (),
) -> Server:
    """Make the server of these options.

    Raises:
        SettingsError: a secret or a file is missing, or a port is none: told before a ledger is made.
    """
    server = Server(
        host=host,
        port=port,
        ports=tuple(map(_site_and_port, port_of)),
        version=packets.V5 if mqtt is Version.v5 else packets.V311,
        user=user,
        password=secret(password) if password else "",
        qos=qos,
        in_flight=in_flight,
        keep_alive_s=keep_alive,
        ca=ca,
        certificate=certificate,
        key=key,
    )
    tls_context(server)
    return server


def _site_and_port(text: str) -> tuple[str, int]:
    site, _, port = text.rpartition("=")
    if not site or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise SettingsError(f"--port-of {text} names no site and port", hint="write --port-of north=1884")
    return site, int(port)
