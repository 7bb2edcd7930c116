"""The settings of local alerts: which go where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from headwater_edge.topic_templates import check_template
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.settings import Duration, Secret, Section, duration, secret

DEFAULT_TOPIC = "hw-alert/{site}/{device}/{rule}"


class AlertSettings(Section, frozen=True, forbid_unknown_fields=True):
    """One way to a person on the spot, cloud or no cloud: a log line, an MQTT topic or a webhook. Any number of these tables."""

    name: Annotated[str, Meta(description="Name of this way, in the log and in metrics.")]
    to: Annotated[
        Literal["log", "mqtt", "webhook"],
        Meta(description='"log": a line; "mqtt": a message on a topic; "webhook": an HTTP POST of JSON.'),
    ] = "log"
    rules: Annotated[
        tuple[str, ...],
        Meta(
            description="Rules whose anomalies go this way, * and ? match any text; device-offline and device-silent are rules, too."
        ),
    ] = ("*",)
    series: Annotated[
        tuple[str, ...], Meta(description="Series (or site/device, of device status) that go this way.")
    ] = ("*",)
    severity: Annotated[
        Literal["info", "warning", "critical"], Meta(description="The least severity that goes this way.")
    ] = "warning"
    ends: Annotated[bool, Meta(description="Say as well when it is over.")] = True
    topic: Annotated[
        str,
        Meta(
            description="mqtt: the topic, with {site}, {device}, {metric}, {rule}, {severity}, {agent} in it."
        ),
    ] = DEFAULT_TOPIC
    broker: Annotated[
        str,
        Meta(
            description="mqtt: name of the [[edge.broker]] that it is published to, at QoS 1; empty: to those who subscribed at the "
            "listener."
        ),
    ] = ""
    retain: Annotated[bool, Meta(description="mqtt: the broker keeps the last one of each topic.")] = False
    url: Annotated[str, Meta(description="webhook: where to, http:// or https://.")] = ""
    secret: Annotated[
        Secret | None,
        Meta(description='webhook: "env:VARIABLE" or "file:PATH" of a secret that signs each (HMAC-SHA256).'),
    ] = None
    timeout: Annotated[Duration, Meta(description="webhook, broker: how long an answer is waited for.")] = (
        "10s"
    )
    retry: Annotated[
        Duration, Meta(description="The first wait after a failure; each is twice as long ...")
    ] = "1s"
    retry_most: Annotated[Duration, Meta(description="... up to this.")] = "60s"
    give_up: Annotated[
        Duration,
        Meta(description="An alert that could not be delivered for so long is dropped, and counted."),
    ] = "1d"
    queue: Annotated[
        int, Meta(ge=1, description="Alerts that wait; beyond, the oldest is dropped, and counted.")
    ] = 1_000


def check_alerts(alerts: Sequence[AlertSettings], brokers: Sequence[str]) -> list[bytes]:
    """Check all tables, and return their secrets, b"" for none.

    Args:
        brokers: names of the brokers that there are.

    Raises:
        SettingsError: with what to change.
    """
    names: set[str] = set()
    for one in alerts:
        where = f"edge.alert {one.name!r}"
        if not valid_name(one.name) or one.name in names:
            raise SettingsError(
                f"{where} is no name, or that of two alerts", hint="1 to 128 characters without / + #"
            )
        names.add(one.name)
        _check(one, where, brokers)
    return [secret(one.secret).encode() if one.secret else b"" for one in alerts]


def _check(one: AlertSettings, where: str, brokers: Sequence[str]) -> None:
    check_template(where, one.topic, ("site", "device", "metric", "rule", "severity", "agent"))
    url = urlsplit(one.url)
    for wrong, what, hint in (
        (
            one.to == "webhook" and (url.scheme not in {"http", "https"} or not url.hostname),
            f"url = {one.url!r} is none",
            'write url = "https://example.org/hook"',
        ),
        (
            bool(one.url or one.secret) and one.to != "webhook",
            "url or secret without a webhook",
            'write to = "webhook"',
        ),
        (
            bool(one.broker or one.retain or one.topic != DEFAULT_TOPIC) and one.to != "mqtt",
            "topic, broker or retain without mqtt",
            'write to = "mqtt"',
        ),
        (
            bool(one.broker) and one.broker not in brokers,
            f"broker = {one.broker!r} is none of [[edge.broker]]",
            f"there are: {', '.join(brokers) or 'none'}; empty for the listener",
        ),
        (one.retain and not one.broker, "the listener retains nothing", "name a broker, or take retain out"),
        (
            not 0 < duration(one.retry) <= duration(one.retry_most) or not duration(one.timeout),
            "retry or timeout is zero, or retry above retry_most",
            'write retry = "1s", retry_most = "60s" and timeout = "10s"',
        ),
    ):
        if wrong:
            raise SettingsError(f"{where}: {what}", hint=hint)
