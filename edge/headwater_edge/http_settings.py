"""The settings of HTTP push: where devices without MQTT post, and what one of them may take."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Duration, Section, Size, duration, size


class HttpSettings(Section, frozen=True, forbid_unknown_fields=True):
    """Devices without MQTT post here, with HTTP/1.1; off unless `port` is set."""

    host: Annotated[
        str, Meta(description="Address to listen on; any but loopback is refused unless users are set.")
    ] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Meta(ge=0, le=65_535)] | None,
        Meta(examples=[8080], description="Its port; 0 takes a free one."),
    ] = None
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Connections that may be open at once.")
    ] = 2_000
    max_body: Annotated[
        Size, Meta(description="The longest body that is taken, before and after it is unpacked.")
    ] = "1MB"
    max_waiting: Annotated[
        Size,
        Meta(
            description="Bytes of bodies that may be on the way in or wait for the disk; beyond it the answer is 503."
        ),
    ] = "32MB"
    request_time: Annotated[
        Duration, Meta(description="A request that is not there as a whole within this time is ended.")
    ] = "20s"
    idle_time: Annotated[
        Duration, Meta(description="A connection on which no request comes for so long is closed.")
    ] = "2m"


class HttpLimits(NamedTuple):
    """The settings as numbers: bytes, seconds."""

    max_connections: int
    max_body: int
    max_waiting: int
    request_s: float
    idle_s: float


def http_limits(settings: HttpSettings) -> HttpLimits:
    """Resolve the settings.

    Raises:
        SettingsError: a value that is none, or with which nothing would work.
    """
    found = HttpLimits(
        settings.max_connections,
        size(settings.max_body),
        size(settings.max_waiting),
        duration(settings.request_time) / 1e6,
        duration(settings.idle_time) / 1e6,
    )
    if found.max_body < 1_000:
        raise SettingsError(
            f"edge.http.max_body = {settings.max_body!r} is too small", hint='write "1KB" or more'
        )
    if found.max_waiting < found.max_body:
        raise SettingsError(
            f"edge.http.max_waiting = {settings.max_waiting!r} is less than one body of {settings.max_body!r}",
            hint="make it several times as large as max_body",
        )
    if not (found.request_s > 0 and found.idle_s > 0):
        raise SettingsError(
            "edge.http: a time of 0 lets nobody in", hint='write request_time = "20s" and idle_time = "2m"'
        )
    return found
