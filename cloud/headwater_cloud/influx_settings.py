"""The settings of `[cloud.influx]`: where the sink writes, and as whom."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Duration, Secret, Section


class InfluxSettings(Section, frozen=True, forbid_unknown_fields=True):
    """The sink: windows, anomalies, alerts and devices' status into InfluxDB, see docs/influx.md."""

    url: Annotated[
        str, Meta(description='Where InfluxDB answers, such as "http://127.0.0.1:8086"; empty: no sink.')
    ] = ""
    api: Annotated[
        Literal["1", "2"],
        Meta(
            description='"1": databases, /write, of InfluxDB 1.x; "2": buckets, /api/v2/write, of 2.x and 3.x.'
        ),
    ] = "1"
    org: Annotated[str, Meta(description='api = "2": the organization, by name.')] = ""
    token: Annotated[
        Secret | None, Meta(description='api = "2": "env:VARIABLE" or "file:PATH" of the token.')
    ] = None
    user: Annotated[str, Meta(description='api = "1": as whom to write; empty: InfluxDB has no users.')] = ""
    password: Annotated[
        Secret | None, Meta(description='api = "1": "env:VARIABLE" or "file:PATH" of the password.')
    ] = None
    prefix: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z][A-Za-z0-9_-]*$",
            description="What names of databases, or buckets, begin with: headwater_1m.",
        ),
    ] = "headwater"
    batch: Annotated[int, Meta(ge=1, le=50_000, description="Points of one request at most.")] = 5_000
    timeout: Annotated[Duration, Meta(description="How long an answer is waited for.")] = "10s"
    max_series: Annotated[
        int,
        Meta(
            ge=1,
            description="Distinct sets of tags at most; what is beyond is counted, reported, and not written: it stays in [cloud] file.",
        ),
    ] = 100_000
    health_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Where the sink serves metrics and health, on [cloud] health_host; 0 takes a free port.",
        ),
    ] = 9662


def place_of(settings: InfluxSettings) -> str:
    """Return which store it is, as `influx.db` remembers it: all that makes points go somewhere else, and no secret."""
    url = urlsplit(settings.url)
    return "|".join(
        (
            settings.api,
            f"{url.scheme}://{url.netloc.lower()}{url.path.rstrip('/')}",
            settings.org,
            settings.prefix,
        )
    )


def check(settings: InfluxSettings) -> None:
    """See that what belongs together is there.

    Raises:
        SettingsError: with what to change.
    """
    url = urlsplit(settings.url)
    for wrong, what, hint in (
        (
            url.scheme not in {"http", "https"} or not url.hostname,
            f"url is {settings.url!r}",
            'write url = "http://127.0.0.1:8086"',
        ),
        (
            bool(url.username or url.password),
            "url holds a password",
            'write user, and password = "file:PATH", or token',
        ),
        (
            settings.api == "2" and (settings.token is None or not settings.org),
            'api = "2" needs org and token',
            'write org = "home" and token = "file:PATH"',
        ),
        (
            settings.api == "1" and bool(settings.user) != (settings.password is not None),
            "user and password go together",
            'write user = "headwater" and password = "file:PATH"',
        ),
        (
            settings.api == "1" and (settings.token is not None or bool(settings.org)),
            'org and token are of api = "2"',
            'write api = "2", or take them out',
        ),
    ):
        if wrong:
            raise SettingsError(f"cloud.influx: {what}", hint=hint)
