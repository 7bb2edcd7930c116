"""The settings of the listener: where devices connect, and what one connection may take."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Duration, Section, Size, duration, size


class TlsSettings(Section, frozen=True, forbid_unknown_fields=True):
    """The same over TLS 1.2 and 1.3, once there is a certificate; `headwater certs` makes one."""

    host: Annotated[
        str,
        Meta(
            description="Address to listen on; any but loopback needs users, or clients that must have certificates."
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Its port; 0 takes a free one.")] = 8883
    certificate: Annotated[
        str, Meta(description="File of the server's certificate and those above it (PEM); no TLS without.")
    ] = ""
    key: Annotated[
        str, Meta(description="File of its key (PEM, no passphrase); empty: it is in the certificate's file.")
    ] = ""
    clients: Annotated[
        Literal["no-certificate", "optional", "required"],
        Meta(description="Whether devices may, or must, show a certificate, which then says who they are."),
    ] = "no-certificate"
    ca: Annotated[
        str,
        Meta(
            description="File of the authorities that devices' certificates are of, and their revocations (PEM)."
        ),
    ] = ""
    identity: Annotated[
        Literal["common-name", "san"],
        Meta(
            description="What of its certificate is the device's user: the common name, or the first alternative name."
        ),
    ] = "common-name"


class ListenerSettings(Section, frozen=True, forbid_unknown_fields=True):
    """Devices connect here, with MQTT 3.1.1 or 5."""

    plain: Annotated[bool, Meta(description="Whether devices may connect without TLS.")] = True
    host: Annotated[
        str, Meta(description="Address to listen on; any but loopback is refused unless users are set.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Its port; 0 takes a free one.")] = 1883
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Devices that may be connected at once.")
    ] = 10_000
    max_packet: Annotated[
        Size, Meta(description="The longest MQTT packet that is taken; a longer one ends its connection.")
    ] = "256KB"
    unauthenticated_time: Annotated[
        Duration, Meta(description="A connection that has not said who it is within this time is ended.")
    ] = "10s"
    packet_time: Annotated[
        Duration, Meta(description="A packet that is not whole within this time ends its connection.")
    ] = "60s"
    in_flight: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,  # as many last uses of packet ids are kept a session (R3): `duplicates.USES_KEPT`
            description="Messages of one connection that may wait for the disk (MQTT 5: Receive Maximum).",
        ),
    ] = 1024
    in_flight_bytes: Annotated[
        Size, Meta(description="Bytes of one connection that may wait for the disk; beyond it is not read.")
    ] = "4MB"
    max_keep_alive: Annotated[
        Duration,
        Meta(
            description='The longest keep alive of an MQTT 5 client: one that asks for more, or for none, is told this; "0s": any.'
        ),
    ] = "1h"
    nap: Annotated[
        Duration,
        Meta(
            description="How long a message may wait so that others are read with it; longer is cheaper and later."
        ),
    ] = "20ms"
    tls: TlsSettings = TlsSettings()


class Limits(NamedTuple):
    """The settings of the listener as numbers: bytes, seconds."""

    max_connections: int
    max_packet: int
    unauthenticated_s: float
    packet_s: float
    in_flight: int
    in_flight_bytes: int
    nap_s: float
    max_keep_alive_s: int = 0


def limits(settings: ListenerSettings) -> Limits:
    """Resolve the settings.

    Raises:
        SettingsError: a value that is none, or with which nothing would work.
    """
    found = Limits(
        settings.max_connections,
        size(settings.max_packet),
        duration(settings.unauthenticated_time) / 1e6,
        duration(settings.packet_time) / 1e6,
        settings.in_flight,
        size(settings.in_flight_bytes),
        duration(settings.nap) / 1e6,
        duration(settings.max_keep_alive) // 1_000_000,
    )
    if not 1_000 <= found.max_packet <= 268_435_460:  # that of MQTT
        raise SettingsError(
            f"edge.listener.max_packet = {settings.max_packet!r} is too small or too large",
            hint='write "1KB" or more, at most "268MB"',
        )
    if not 0 < found.nap_s <= 1:
        raise SettingsError(
            f"edge.listener.nap = {settings.nap!r} is too short or too long",
            hint='write "1us" to "1s"; "20ms" is good',
        )
    if not 0 <= found.max_keep_alive_s <= 65_535 or 0 < duration(settings.max_keep_alive) < 1_000_000:
        raise SettingsError(
            f"edge.listener.max_keep_alive = {settings.max_keep_alive!r} is too short or too long",
            hint='write "1s" to "18h", or "0s" for any',
        )
    if not found.unauthenticated_s > 0:
        raise SettingsError(
            "edge.listener.unauthenticated_time and packet_time of nothing let nobody in",
            hint='write unauthenticated_time = "10s", packet_time = "60s"',
        )
    return found
