"""The settings of egress: what other programs of the site are sent on MQTT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from headwater_edge.topic_templates import check_template
from headwater_shared.errors import SettingsError
from headwater_shared.settings import Section

_SERIES = ("site", "device", "metric", "agent")


class EgressSettings(Section, frozen=True, forbid_unknown_fields=True):
    """Windows, anomalies and device status as JSON on MQTT, for Node-RED, Home Assistant and others; live, not kept for later."""

    windows: Annotated[
        tuple[str, ...], Meta(description='Levels whose windows go out, such as ["1m"]; none by default.')
    ] = ()
    anomalies: Annotated[bool, Meta(description="Anomalies go out, begins and ends.")] = False
    devices: Annotated[bool, Meta(description="Changes of device status go out.")] = False
    series: Annotated[
        tuple[str, ...], Meta(description="Series (site/device/metric) that go out; * and ? match any text.")
    ] = ("*",)
    broker: Annotated[
        str,
        Meta(
            description="Name of the [[edge.broker]] that it is published to; empty: only to those who subscribed at the listener."
        ),
    ] = ""
    window_topic: Annotated[
        str, Meta(description="Topic of windows, with {site}, {device}, {metric}, {level}, {agent} in it.")
    ] = "hw-out/{site}/{device}/{metric}/{level}"
    anomaly_topic: Annotated[
        str,
        Meta(description="Topic of anomalies, with {site}, {device}, {metric}, {rule}, {severity}, {agent}."),
    ] = "hw-out/{site}/{device}/{metric}/anomaly/{rule}"
    device_topic: Annotated[
        str,
        Meta(description="Topic of device status, with {site}, {device}, {agent}; retained by the broker."),
    ] = "hw-out/{site}/{device}/status"
    home_assistant: Annotated[
        bool,
        Meta(
            description="Announce series to Home Assistant (MQTT discovery, retained), through the broker; the first of windows is "
            "their value."
        ),
    ] = False
    home_assistant_prefix: Annotated[str, Meta(description="Discovery prefix of Home Assistant.")] = (
        "homeassistant"
    )
    queue: Annotated[
        int,
        Meta(
            ge=1, description="Messages that wait for the broker; beyond, the oldest is dropped, and counted."
        ),
    ] = 10_000


def check_egress(settings: EgressSettings, brokers: Sequence[str], levels: Sequence[str]) -> None:
    """Check the table.

    Args:
        brokers: names of the brokers that there are.
        levels: those of the windows that there are.

    Raises:
        SettingsError: with what to change.
    """
    where = "edge.egress"
    check_template(f"{where}.window_topic", settings.window_topic, (*_SERIES, "level"))
    check_template(f"{where}.anomaly_topic", settings.anomaly_topic, (*_SERIES, "rule", "severity"))
    check_template(f"{where}.device_topic", settings.device_topic, ("site", "device", "agent"))
    unknown = [level for level in settings.windows if level not in levels]
    if unknown:
        raise SettingsError(
            f"{where}.windows: there is no level {unknown[0]!r}", hint=f"there are {', '.join(levels)}"
        )
    if settings.broker and settings.broker not in brokers:
        raise SettingsError(
            f"{where}.broker = {settings.broker!r} is none of [[edge.broker]]",
            hint=f"there are: {', '.join(brokers) or 'none'}; empty for the listener",
        )
    if settings.home_assistant and not (settings.broker and settings.windows):
        raise SettingsError(
            f"{where}.home_assistant needs a broker and windows: Home Assistant is a client of that broker",
            hint='write broker = "NAME" and windows = ["1m"], for example',
        )
    if len(settings.windows) > 1 and "{level}" not in settings.window_topic:
        raise SettingsError(
            f"{where}.window_topic says no {{level}}, and there are windows of several",
            hint='put {level} into it, or write windows = ["1m"]',
        )
