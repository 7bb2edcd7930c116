"""The cloud side's settings, as a person writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta, field

from headwater_cloud.book import Book
from headwater_cloud.book_settings import (
    AlertsSettings,
    CompareSettings,
    InhibitSettings,
    PatternSettings,
    book_of,
)
from headwater_cloud.influx_settings import InfluxSettings
from headwater_cloud.notify_settings import NotifySettings
from headwater_cloud.pipeline import Limits
from headwater_cloud.retention import Keep
from headwater_shared.settings import Duration, Section, duration
from headwater_shared.spread_settings import SpreadSettings


class CloudSettings(Section, frozen=True, forbid_unknown_fields=True):
    """The cloud side."""

    bus: Annotated[
        str,
        Meta(
            description='The bus that the cloud side reads: a SQLite log, relative to the data folder, or "kafka://host:port,..." (see [kafka]).'
        ),
    ] = "log.db"
    file: Annotated[
        str, Meta(description="Its own file: windows, alerts and state; relative to the data folder.")
    ] = "cloud.db"
    notifications: Annotated[
        str,
        Meta(
            description="A JSON line for each notification, whatever [[cloud.notify]] says; relative to the data folder. Empty: none."
        ),
    ] = "notifications.jsonl"
    notify: Annotated[
        tuple[NotifySettings, ...],
        Meta(description="Routes to people; docs/notify.md."),
    ] = ()
    zones: Annotated[
        dict[str, str],
        Meta(
            description='IANA time zones of sites, the first glob that matches: { "north-*" = "Europe/Berlin" }; of others UTC.'
        ),
    ] = field(default_factory=dict)
    public_url: Annotated[
        str,
        Meta(
            description="Where people's browsers reach /ack of this cloud side, such as https://headwater.example.org; empty: no links to "
            "acknowledge."
        ),
    ] = ""
    batch: Annotated[int, Meta(ge=1, le=10_000, description="Records of one commit at most.")] = 200
    wait: Annotated[Duration, Meta(description="How long to wait for more records once all are read.")] = (
        "100ms"
    )
    gap_after: Annotated[
        Duration, Meta(description="How long a record of an agent may be missing before that is reported.")
    ] = "60s"
    silent_after: Annotated[
        Duration, Meta(description="Silence after which windows no longer wait for an agent.")
    ] = "5m"
    keep: Annotated[
        dict[str, Duration],
        Meta(description="How long windows are kept, by level; what is not named stays for ever."),
    ] = field(default_factory=lambda: {"10s": "7d", "1m": "60d"})
    keep_parts: Annotated[
        Duration,
        Meta(
            description="How long windows of several parts may be revised; what comes later is a dead letter."
        ),
    ] = "7d"
    keep_found: Annotated[
        Duration,
        Meta(
            description="How long anomalies, alerts that are over, and reports are kept after their last word."
        ),
    ] = "400d"
    group: Annotated[
        str,
        Meta(
            description="Kafka's consumer group of the workers (`headwater-cloud worker`); another one begins with the oldest record, and needs another `file`."
        ),
    ] = "workers"
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="How many workers `headwater up` runs on this machine, slots 1 to N, where the bus is Kafka; 0: one process with its state in `file`.",
        ),
    ] = 0
    commit: Annotated[Duration, Meta(description="How often a worker commits what it has worked on.")] = (
        "200ms"
    )
    spread: Annotated[
        tuple[SpreadSettings, ...],
        Meta(description="Hot sites, as the agents have them; docs/kafka.md."),
    ] = ()
    rules: Annotated[
        str,
        Meta(
            description='A file of more rules, such as "rules.toml", relative to this one: [[pattern]], [[compare]], [[inhibit]], [alerts]. '
            "It may hold the agent's, too."
        ),
    ] = ""
    pattern: Annotated[
        tuple[PatternSettings, ...], Meta(description="Patterns over what was found; docs/rules.md.")
    ] = ()
    compare: Annotated[
        tuple[CompareSettings, ...],
        Meta(description="Comparisons of devices with their peers; docs/rules.md."),
    ] = ()
    inhibit: Annotated[
        tuple[InhibitSettings, ...], Meta(description="Alerts that mute others; docs/alerts.md.")
    ] = ()
    alerts: AlertsSettings = AlertsSettings()
    influx: InfluxSettings = InfluxSettings()
    health_host: Annotated[str, Meta(description="Where metrics and health are served.")] = "127.0.0.1"
    health_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Its port; 0 takes a free one. The worker of slot N takes the one N - 1 above it.",
        ),
    ] = 9642

    def with_files(self, path: Path) -> Self:
        """Return these settings with the rules of the file that they name.

        Raises:
            SettingsError: naming file, line and key of a rule that is wrong, here or there.
        """
        from headwater_cloud.book_files import with_rules

        return with_rules(self, path)

    def book(self) -> Book:
        """Return the rules that shards are to go by."""
        from headwater_cloud.book_files import tables_of

        return book_of(tables_of(self))

    def limits(self) -> Limits:
        """How long operators are patient."""
        return Limits(duration(self.gap_after), duration(self.silent_after))

    def kept(self) -> Keep:
        """How long history is kept."""
        return Keep(
            {level: duration(text) for level, text in self.keep.items()},
            duration(self.keep_parts),
            duration(self.keep_found),
        )


def in_data(data: str, name: str) -> Path:
    """A file of the settings: in the data folder unless its path is absolute."""
    return Path(data) / name
