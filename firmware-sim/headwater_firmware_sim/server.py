"""The server that the devices speak to, how they speak to it, and how long they wait before they call again."""

from __future__ import annotations

import random
import ssl
from functools import cache

import msgspec

from headwater_firmware_sim.packets import V311
from headwater_shared.errors import SettingsError

SHORTEST_S, LONGEST_S = 0.05, 1.0
"""Of a wait before the next try to connect: short, for the fleet lives on a loopback or in a lab."""
STABLE_S = 2.0
"""A connection that held so long makes the next wait a short one again."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An MQTT server: Headwater's agent, or any broker."""

    host: str = "127.0.0.1"
    port: int = 1883
    ports: tuple[tuple[str, int], ...] = ()
    """Sites whose devices connect to another port: to an agent of their own."""
    version: int = V311
    """Protocol level: `packets.V311` or `packets.V5`."""
    user: str = ""
    password: str = ""
    qos: int = 1
    """1 or 2: at which devices publish."""
    in_flight: int = 20
    """Messages that a device sends before the first of them is acknowledged; at QoS 2, complete."""
    keep_alive_s: int = 30
    ca: str = ""
    """File of the authority that the server's certificate is of; without it the devices do not speak TLS."""
    certificate: str = ""
    key: str = ""
    """Files of the devices' own certificate, if they have one."""

    def at(self, site: str) -> Server:
        """Return the server as the devices of a site know it."""
        return msgspec.structs.replace(self, port=dict(self.ports).get(site, self.port), ports=())


@cache
def tls_context(server: Server) -> ssl.SSLContext | None:
    """Return what all devices' TLS is made of; None where they speak none.

    Raises:
        SettingsError: a file is missing, or is not what it should be.
    """
    if not server.ca:
        return None
    try:
        context = ssl.create_default_context(cafile=server.ca)
        if server.certificate:
            context.load_cert_chain(server.certificate, server.key or None, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the devices' TLS cannot be set up: {error}",
            hint="see --ca, --certificate and --key: files in PEM",
        ) from None
    return context


def refused_by_tls(server: Server, device: str, error: BaseException | None) -> SettingsError | None:
    """Explain why there will be no TLS between device and server, if that is what the error says."""
    where = f"{server.host}:{server.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return SettingsError(
            f"the device {device} does not accept the certificate of {where}: {error.verify_message}",
            hint="--ca names its authority, and --host a name that stands in it",
        )
    if isinstance(error, ssl.SSLError) and "_ALERT_" in (error.reason or ""):
        alert = (error.reason or "").partition("_ALERT_")[2].lower().replace("_", " ")
        return SettingsError(
            f"{where} does not want TLS with the device {device}: {alert}", hint="see --certificate and --key"
        )
    return None


class Waits:
    """Waits between tries to connect: capped, with decorrelated jitter (Brooker: Exponential Backoff And Jitter, 2015)."""

    def __init__(self) -> None:
        self._last = SHORTEST_S

    def next(self) -> float:
        """Return how many seconds to wait now."""
        self._last = min(LONGEST_S, random.uniform(SHORTEST_S, 3 * self._last))
        return self._last

    def held(self, seconds: float) -> None:
        """Take note of a connection that is over."""
        if seconds >= STABLE_S:
            self._last = SHORTEST_S
