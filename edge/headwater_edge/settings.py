"""The agent's settings, as a person writes them, and the part of them that a step depends on (journaled, R12)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from headwater_edge.acts import Act, ActSettings, resolved
from headwater_edge.alert_settings import AlertSettings
from headwater_edge.broker_settings import BrokerSettings
from headwater_edge.detect_settings import DetectSettings, detect_rules, with_files
from headwater_edge.detection.rules import DetectRule
from headwater_edge.device_settings import DeviceSettings, PresenceRules, presence_rules
from headwater_edge.disk_settings import DiskSettings
from headwater_edge.egress_settings import EgressSettings
from headwater_edge.format_settings import FormatSettings
from headwater_edge.forward_settings import ForwardSettings
from headwater_edge.http_settings import HttpSettings
from headwater_edge.listener_settings import ListenerSettings
from headwater_edge.meaning import MetricRule
from headwater_edge.metric_settings import MetricSettings
from headwater_edge.rule_settings import (
    JumpSettings,
    LimitSettings,
    MissingSettings,
    RangeSettings,
    RateSettings,
    RuleTables,
    StuckSettings,
    names_of,
    rules_of,
)
from headwater_edge.rules import LimitRule, MoreRules
from headwater_edge.window_settings import SomeLevel, SomeWindows, TimeBase, levels_of, some_levels
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.parts import level_of
from headwater_shared.settings import Duration, Secret, Section, Size, duration
from headwater_shared.spread import Spread
from headwater_shared.spread_settings import SpreadSettings, spread_of


class WindowSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How readings become windows."""

    levels: Annotated[
        tuple[str, ...], Meta(description="Window lengths, the base first; each a multiple of the base.")
    ] = ("10s", "1m", "10m", "1h")
    time: Annotated[
        TimeBase,
        Meta(
            description='Windows are over the time that devices send ("event"), or over the time at which readings arrive '
            '("arrival"), for devices whose clocks are not to be believed; levels are then called 10s@arrival.'
        ),
    ] = "event"
    lateness: Annotated[
        Duration,
        Meta(description="How far a device's readings may come out of order before its windows close."),
    ] = "2s"
    idle: Annotated[
        Duration, Meta(description="Silence after which a device's windows close by the passing of time.")
    ] = "10s"
    held: Annotated[
        Duration, Meta(description="How long a closed window waits in memory for late readings and resends.")
    ] = "60s"
    future: Annotated[
        Duration,
        Meta(
            description="How far a device's clock may be ahead of ours; a later stamp is clamped to the time of arrival, and marked."
        ),
    ] = "5m"
    clock_wait: Annotated[
        Duration,
        Meta(
            description="How long readings without a time wait for our clock to be set, where it is not yet; then they are stamped "
            "with what it says, and marked."
        ),
    ] = "10m"
    horizon: Annotated[
        Duration,
        Meta(
            description="How far back a resent reading is recognised exactly; an older one is a dead letter where its series "
            "was heard, and counts where it was not."
        ),
    ] = "6h"
    duplicates: Annotated[
        Literal["meaning", "transport"],
        Meta(
            description='"meaning": the same series, time and value is one reading. "transport": only what MQTT marks as '
            "resent is; for sources whose clock is coarser than their rate."
        ),
    ] = "meaning"


class EdgeSettings(Section, frozen=True, forbid_unknown_fields=True):
    """The agent."""

    name: Annotated[str, Meta(description="Name of this agent, one of its kind.")] = "edge-1"
    bus: Annotated[
        str,
        Meta(
            description='The bus that the agent forwards to: a SQLite log, relative to the data folder, or "kafka://host:port,..." (see [kafka]).'
        ),
    ] = "log.db"
    tick: Annotated[
        Duration,
        Meta(description="Shortest gathering time of a commit under load; stretched up to 1s when calm."),
    ] = "250ms"
    tick_readings: Annotated[int, Meta(ge=1, description="Readings that end a tick at once.")] = 10_000
    max_unacknowledged: Annotated[
        int,
        Meta(
            ge=1000, description="Readings in memory, not yet committed, at which sockets are no longer read."
        ),
    ] = 100_000
    max_series: Annotated[
        int, Meta(ge=1, le=32_767, description="Series taken up; readings of further ones are dead letters.")
    ] = 20_000
    dead_letters: Annotated[
        Size,
        Meta(
            description="Bytes of dead letters that are kept. Beyond, a message that cannot be read is not acknowledged, and its "
            "connection ends: replay or purge what is there."
        ),
    ] = "64MB"
    new_series_per_hour: Annotated[
        int,
        Meta(
            ge=1,
            description="New series an hour; readings of further ones are dead letters until there is room.",
        ),
    ] = 20_000
    series_idle: Annotated[
        Duration,
        Meta(
            description="Silence after which a series is let go, and its device with its last one. It comes back as it was, but "
            "for what rules and detectors learned of it."
        ),
    ] = "7d"
    site: Annotated[str, Meta(description="Site of devices whose topics name none.")] = "site-1"
    health_host: Annotated[str, Meta(description="Where metrics and health are served.")] = "127.0.0.1"
    health_port: Annotated[int, Meta(ge=0, le=65535, description="Its port; 0 takes a free one.")] = 9641
    users: Annotated[
        dict[str, Secret],
        Meta(
            description='Users whose passwords are given from outside: name = "env:VARIABLE" or "file:PATH" of the password.'
        ),
    ] = msgspec.field(default_factory=dict)
    users_file: Annotated[
        str,
        Meta(
            description="All other users, hashed, as `headwater-edge user` writes them; relative to the data folder."
        ),
    ] = "users.json"
    state_key: Annotated[
        str,
        Meta(
            description="The file of the key that learnt models are signed with in the agent's file, outside of the data folder and in no "
            "backup; without, it is state.key in a folder beside the data folder, called as that with -key."
        ),
    ] = ""
    grants: Annotated[
        dict[str, tuple[str, ...]],
        Meta(
            description='What users, or holders of certificates, may speak for: name = ["SITE/DEVICE", "topic:FILTER"]; without: '
            "the device of that name."
        ),
    ] = msgspec.field(default_factory=dict)
    devices: DeviceSettings = DeviceSettings()
    disk: DiskSettings = DiskSettings()
    listener: ListenerSettings = ListenerSettings()
    http: HttpSettings = HttpSettings()
    forward: ForwardSettings = ForwardSettings()
    broker: Annotated[tuple[BrokerSettings, ...], Meta(description="Brokers to subscribe to.")] = ()
    windows: WindowSettings = WindowSettings()
    window: Annotated[tuple[SomeWindows, ...], Meta(description="Windows that only some series have.")] = ()
    rules: Annotated[
        str,
        Meta(
            description='A file of more rules, such as "rules.toml", relative to this one: [[limit]], [[rate]] and so on.'
        ),
    ] = ""
    limit: Annotated[tuple[LimitSettings, ...], Meta(description="Limit rules.")] = ()
    range: Annotated[tuple[RangeSettings, ...], Meta(description="Rules of ranges.")] = ()
    rate: Annotated[tuple[RateSettings, ...], Meta(description="Rules of rates of change.")] = ()
    stuck: Annotated[tuple[StuckSettings, ...], Meta(description="Rules of values that stay the same.")] = ()
    missing: Annotated[
        tuple[MissingSettings, ...], Meta(description="Rules of series that are not heard.")
    ] = ()
    jump: Annotated[tuple[JumpSettings, ...], Meta(description="Rules of jumps between windows.")] = ()
    detect: Annotated[
        tuple[DetectSettings, ...], Meta(description="Detectors that judge closed windows.")
    ] = ()
    act: Annotated[
        tuple[ActSettings, ...], Meta(description="Commands to devices that anomalies lead to.")
    ] = ()
    alert: Annotated[tuple[AlertSettings, ...], Meta(description="Local alerts: which go where.")] = ()
    egress: EgressSettings = EgressSettings()
    format: Annotated[
        tuple[FormatSettings, ...],
        Meta(description="Formats of other devices, by topic; docs/formats.md shows each."),
    ] = ()
    metric: Annotated[
        tuple[MetricSettings, ...], Meta(description="Units, ranges and scales of metrics.")
    ] = ()
    spread: Annotated[
        tuple[SpreadSettings, ...], Meta(description="Hot sites, over several shards; docs/kafka.md.")
    ] = ()

    def with_files(self, path: Path) -> Self:
        """Return these settings with the rules of the file that they name.

        Args:
            path: of the settings file.

        Raises:
            SettingsError: naming file, line and key of a rule that is wrong, here or there.
        """
        from headwater_edge.rule_files import with_rules

        detect = with_files(self.detect, path.parent)
        return with_rules(msgspec.structs.replace(self, detect=detect) if detect else self, path)


class StepSettings(msgspec.Struct, frozen=True):
    """What a step depends on, resolved: journaled with every start."""

    agent: str
    levels: tuple[str, ...]
    """Those that all series have, the base first."""
    lateness_us: int
    idle_us: int
    held_us: int
    by_meaning: bool
    rules: list[LimitRule]
    horizon_us: int = 21_600_000_000
    future_us: int = 2**61
    clock_wait_us: int = 0
    metrics: list[MetricRule] = []
    """The defaults are what steps did before there was the setting: a journal of then is run again under them."""
    some_levels: tuple[SomeLevel, ...] = ()
    """Those that only some series have."""
    acts: list[Act] = []
    more_rules: MoreRules = MoreRules()
    """Rules of all kinds but limits."""
    presence: PresenceRules = PresenceRules()
    detect: tuple[DetectRule, ...] = ()
    spread: tuple[Spread, ...] = ()
    """Sites that are on more shards than their own, in order."""


def step_settings(settings: EdgeSettings) -> StepSettings:
    """Resolve and check what a step depends on.

    Raises:
        SettingsError: levels that do not fit each other, a rule that cannot be, an act without a rule, a name that is none.
    """
    if not valid_name(settings.name):
        raise SettingsError(
            f"edge.name = {settings.name!r} is no name", hint="1 to 128 characters without / + #"
        )
    windows = settings.windows
    levels = levels_of(windows.levels, windows.time)
    rules = tables_of(settings)
    limits, more_rules = rules_of(rules, level_of(levels[0]).length_us)
    by_arrival = windows.time == "arrival"  # nothing is late then, and time passes for all alike
    return StepSettings(
        settings.name,
        levels,
        0 if by_arrival else duration(windows.lateness),
        0 if by_arrival else duration(windows.idle),
        duration(windows.held),
        windows.duplicates == "meaning",
        limits,
        horizon_us=duration(windows.horizon),
        future_us=duration(windows.future),
        clock_wait_us=duration(windows.clock_wait),
        some_levels=some_levels(settings.window, levels),
        acts=resolved(settings.act, [*names_of(rules), *(one.name for one in settings.detect)]),
        presence=presence_rules(settings.devices),
        metrics=[
            MetricRule(one.series, one.scale, one.offset, one.counter, one.wraps_at or 0.0)
            for one in settings.metric
            if one.counter or (one.scale, one.offset) != (1.0, 0.0)
        ],
        more_rules=more_rules,
        detect=detect_rules(settings.detect, levels, names_of(rules)),
        spread=spread_of(settings.spread),
    )


def tables_of(settings: EdgeSettings) -> RuleTables:
    """Return the rules of the settings, of all kinds."""
    return RuleTables(
        settings.limit, settings.range, settings.rate, settings.stuck, settings.missing, settings.jump
    )
