"""The settings of a broker that a site already has: where it is, what to subscribe to, how much may be on the way."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from headwater_edge.broker_filters import check_filters
from headwater_edge.broker_packets import LONGEST
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.settings import Duration, Secret, Section, Size, duration, size

CANARY = b"hw-canary/"
"""What begins so is a canary, this agent's or another's, and never a reading."""


class BrokerSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A broker that the site already has: the agent connects to it and subscribes. Any number of these tables."""

    name: Annotated[str, Meta(description="Name of the broker here, in the log and in metrics.")]
    host: Annotated[str, Meta(description="Where it is: a name or an address.", examples=["127.0.0.1"])]
    port: Annotated[int, Meta(ge=1, le=65_535, description="Its port; mostly 8883 with TLS.")] = 1883
    filters: Annotated[
        tuple[str, ...], Meta(description="What to subscribe to; no two may match the same topic.")
    ] = ("hw/+/+/data/#",)
    qos: Annotated[
        Literal[1, 2],
        Meta(description="QoS of the subscriptions. At 2 the broker's repeats are told from equal messages."),
    ] = 1
    version: Annotated[Literal["5", "3.1.1"], Meta(description="The MQTT that the broker speaks.")] = "5"
    client_id: Annotated[
        str,
        Meta(description='The client id; one of its own for each agent: "headwater-AGENT-BROKER" if empty.'),
    ] = ""
    user: Annotated[str, Meta(description="The user name, if the broker wants one.")] = ""
    password: Annotated[Secret | None, Meta(description='Its password: "env:VARIABLE" or "file:PATH".')] = (
        None
    )
    tls: Annotated[
        bool, Meta(description="Connect with TLS, and check the broker's certificate and name.")
    ] = False
    ca: Annotated[
        str,
        Meta(
            description="File of the authority that signed the broker's certificate; the system's if empty."
        ),
    ] = ""
    cert: Annotated[
        str, Meta(description="File of this agent's own certificate, if the broker wants one ...")
    ] = ""
    key: Annotated[str, Meta(description="... and of its key.")] = ""
    receive_maximum: Annotated[
        int,
        Meta(
            ge=1,
            le=65_535,
            description="Messages that the broker may send ahead of the disk (MQTT 5: Receive Maximum).",
        ),
    ] = 20_000
    in_flight_bytes: Annotated[
        Size, Meta(description="Bytes that may wait for the disk; beyond it the broker is not read.")
    ] = "32MB"
    max_packet: Annotated[
        Size,
        Meta(description="The longest packet that the broker may send (MQTT 5 only); it drops longer ones."),
    ] = "1MB"
    session_expiry: Annotated[
        Duration,
        Meta(description="How long the broker keeps messages for an agent that is away (MQTT 5 only)."),
    ] = "7d"
    keep_alive: Annotated[Duration, Meta(description="The longest silence towards the broker.")] = "30s"
    canary: Annotated[
        Duration,
        Meta(
            description="How often a message to hw-canary/AGENT is looped through the broker, to see that it delivers; "
            '"0s" for never.'
        ),
    ] = "10s"
    canary_timeout: Annotated[
        Duration, Meta(description="Without any message for so long, the agent connects again.")
    ] = "35s"
    reconnect: Annotated[
        Duration,
        Meta(description="After a loss agents connect again within so long, each at a time of its own."),
    ] = "5s"
    reconnect_most: Annotated[Duration, Meta(description="The longest wait between two attempts.")] = "60s"
    nap: Annotated[
        Duration, Meta(description="How long a message may wait so that others are read with it.")
    ] = "20ms"


class Terms(NamedTuple):
    """The settings of one broker as numbers: bytes, seconds."""

    in_flight_bytes: int
    max_packet: int
    expiry_s: int
    keep_alive_s: int
    canary_s: float
    canary_timeout_s: float
    reconnect_s: float
    reconnect_most_s: float
    nap_s: float


_LEAST_PACKET = 1_000


def check_brokers(brokers: Sequence[BrokerSettings]) -> None:
    """Check names, filters and values of all brokers.

    Raises:
        SettingsError: with what to change, a file that is not there, too; filters of two tables for one broker may not
            overlap either (R9).
    """
    of_place: dict[tuple[str, int], list[str]] = {}
    names: set[str] = set()
    for broker in brokers:
        where = f"edge.broker {broker.name!r}"
        if not valid_name(broker.name) or broker.name in names:
            raise SettingsError(
                f"{where} is no name, or that of two brokers", hint="1 to 128 characters without / + #"
            )
        names.add(broker.name)
        terms(broker)
        tls_context(broker)
        check_filters(where, broker.filters)
        filters = of_place.setdefault((broker.host.lower(), broker.port), [])
        filters += broker.filters
        check_filters(f"the brokers at {broker.host}:{broker.port}", filters)


def terms(broker: BrokerSettings) -> Terms:
    """Resolve the settings of a broker.

    Raises:
        SettingsError: a value that is none, or with which nothing would work.
    """
    where = f"edge.broker {broker.name!r}"
    found = Terms(
        size(broker.in_flight_bytes),
        size(broker.max_packet),
        duration(broker.session_expiry) // 1_000_000,
        duration(broker.keep_alive) // 1_000_000,
        duration(broker.canary) / 1e6,
        duration(broker.canary_timeout) / 1e6,
        duration(broker.reconnect) / 1e6,
        duration(broker.reconnect_most) / 1e6,
        duration(broker.nap) / 1e6,
    )
    for wrong, what, hint in (
        (
            not _LEAST_PACKET <= found.max_packet <= LONGEST,
            f"max_packet = {broker.max_packet!r} is too small or too large",
            'write "1KB" or more, at most "268MB"',
        ),
        (
            found.expiry_s > 0xFFFFFFFF or not 1 <= found.keep_alive_s <= 0xFFFF,
            "session_expiry or keep_alive is longer than MQTT can say, or keep_alive is below a second",
            'write session_expiry = "7d" and keep_alive = "30s"',
        ),
        (
            found.canary_s > 0 and found.canary_timeout_s < 2 * found.canary_s,
            f"canary_timeout = {broker.canary_timeout!r} is less than two canaries of {broker.canary!r}",
            'write canary = "10s" and canary_timeout = "35s"',
        ),
        (
            not 0 < found.reconnect_s <= found.reconnect_most_s,
            f"reconnect = {broker.reconnect!r} is zero, or above reconnect_most",
            'write reconnect = "5s" and reconnect_most = "60s"',
        ),
        (not 0 < found.nap_s <= 1, f"nap = {broker.nap!r} is too short or too long", '"20ms" is good'),
        (
            bool(broker.ca or broker.cert or broker.key) and not broker.tls,
            "ca, cert or key without tls",
            "set tls = true",
        ),
        (bool(broker.cert) != bool(broker.key), "cert without key, or key without cert", "set both"),
        (
            broker.password is not None and not broker.user,
            "a password without a user",
            "set user, too",
        ),
    ):
        if wrong:
            raise SettingsError(f"{where}: {what}", hint=hint)
    return found


def tls_context(broker: BrokerSettings) -> ssl.SSLContext | None:
    """Make what TLS needs; None if the broker is plain. Read anew for every connection, so a renewed certificate is taken up.

    Raises:
        SettingsError: a file cannot be read, or is something else.
    """
    if not broker.tls:
        return None
    where = f"edge.broker {broker.name!r}"
    for path in (broker.ca, broker.cert, broker.key):
        if path and not Path(path).is_file():
            raise SettingsError(f"{where}: there is no file {path}", hint="check the path")
    try:
        context = ssl.create_default_context(cafile=broker.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert:
            context.load_cert_chain(broker.cert, broker.key)
    except OSError as error:
        raise SettingsError(
            f"{where}: {broker.ca or broker.cert} cannot be used: {error}",
            hint="certificates and keys are files in PEM format, and the key belongs to the certificate",
        ) from None
    return context
