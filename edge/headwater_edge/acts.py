"""Acts: which command a rule's anomalies lead to. Settings become what the step has; an anomaly becomes an order with an id (R14)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import isfinite
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.identity import stable_id, valid_name
from headwater_shared.records import Anomaly
from headwater_shared.settings import Duration, Section, duration

WORDS = frozenset(
    {"series", "site", "device", "metric", "rule", "act", "severity", "text", "value", "limit", "time"}
)
"""What may stand in braces in a command's arguments."""
_ADDRESS = frozenset({"site", "device", "metric"})
_HOLE = re.compile(r"\{([a-z]+)\}")
_LONGEST = 4_096
"""Bytes of a command's name and arguments: they are in every snapshot while it is open."""
ANSWERS = "/ack"
"""What the topic of a command's answers has behind the command's own."""


class ActSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A command that is sent to a device when an anomaly of a rule begins, and perhaps another when it is over; docs/commands.md."""

    name: Annotated[str, Meta(description="Name of the act; commands bear it.")]
    rule: Annotated[str, Meta(description="Name of the rule whose anomalies it is for.")]
    command: Annotated[
        str | dict[str, Any],
        Meta(
            description='What the device is to do: a name, or a table of a name and arguments: { name = "shut", valve = 2 }. '
            "{value}, {limit}, {series}, {site}, {device}, {metric}, {rule}, {act}, {severity}, {text} and {time} stand for "
            "the anomaly's.",
            examples=["shut"],
        ),
    ]
    undo: Annotated[
        str | dict[str, Any] | None,
        Meta(
            description="The command that is sent once the anomaly is over, after the first has ended.",
            examples=["open"],
        ),
    ] = None
    series: Annotated[
        str, Meta(description="Only anomalies of these series: site/device/metric, * and ? match any text.")
    ] = "*"
    device: Annotated[
        str,
        Meta(
            description="Which device is commanded, as SITE/DEVICE; by default the one that the series is of."
        ),
    ] = "{site}/{device}"
    topic: Annotated[
        str,
        Meta(description="Topic of its commands; its answers come on the same with /ack behind it."),
    ] = "hw/{site}/{device}/cmd"
    ttl: Annotated[
        Duration,
        Meta(description="A command that is not answered for so long has expired, and is sent no more."),
    ] = "5m"
    retry: Annotated[
        Duration,
        Meta(
            description="A device that is there and does not answer hears it again after so long, then after twice that, ..."
        ),
    ] = "5s"


class Act(msgspec.Struct, frozen=True):
    """An act as the step has it. `command` and `undo` ("": none) are JSON: {"name": ..., "arguments": {...}}."""

    name: str
    rule: str
    series: str
    device: str
    topic: str
    command: str
    undo: str
    ttl_us: int
    retry_us: int


class Order(NamedTuple):
    """A command as an act and an anomaly make it, with its id; `undo` is what would undo it, "" for nothing."""

    id: str
    act: str
    anomaly: str
    device: str
    topic: str
    command: str
    undo: str
    undo_id: str
    ttl_us: int
    retry_us: int


class Evidence(NamedTuple):
    """What an order needs to know of the begin of an anomaly of which there is no record yet."""

    id: str
    rule: str
    series: str
    severity: str
    text: str
    value: float
    limit: float
    begin_us: int


def orders(acts: Sequence[Act], anomaly: Evidence | Anomaly) -> list[Order]:
    """Make the orders that an anomaly's begin leads to; the same anomaly gives the same ids, in every process and run."""
    return [
        _order(act, anomaly)
        for act in acts
        if act.rule == anomaly.rule and fnmatchcase(anomaly.series, act.series)
    ]


def _order(act: Act, anomaly: Evidence | Anomaly) -> Order:
    site, device, metric = (*anomaly.series.split("/", 2), "", "")[:3]
    words: dict[str, Any] = {"site": site, "device": device, "metric": metric}
    whom = _filled(act.device, words)
    to_site, _, to_device = whom.partition("/")
    topic = _filled(act.topic, words | {"site": to_site, "device": to_device})
    words |= {"series": anomaly.series, "rule": anomaly.rule, "act": act.name, "severity": anomaly.severity}
    words |= {
        "text": anomaly.text,
        "value": anomaly.value,
        "limit": anomaly.limit if isfinite(anomaly.limit) else None,
        "time": anomaly.begin_us,
    }
    return Order(
        stable_id("command", act.name, anomaly.id),
        act.name,
        anomaly.id,
        whom,
        topic,
        _with_words(act.command, words),
        _with_words(act.undo, words) if act.undo else "",
        stable_id("undo", act.name, anomaly.id),
        act.ttl_us,
        act.retry_us,
    )


def _with_words(command: str, words: Mapping[str, Any]) -> str:
    return msgspec.json.encode(_put_in(msgspec.json.decode(command), words)).decode()


def _put_in(value: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _put_in(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put_in(inner, words) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _HOLE.fullmatch(value)
    return words[whole[1]] if whole else _filled(value, words)  # alone, a number stays one


def _filled(text: str, words: Mapping[str, Any]) -> str:
    return _HOLE.sub(lambda hole: str(words[hole[1]]), text)


def resolved(settings: Sequence[ActSettings], rules: Iterable[str]) -> list[Act]:
    """Check acts and make them the step's.

    Args:
        rules: the names of all rules that there are.

    Raises:
        SettingsError: an act that cannot be, with what to change.
    """
    known = set(rules)
    names = [act.name for act in settings]
    for act in settings:
        where = f"[[edge.act]] {act.name!r}"
        if names.count(act.name) > 1:
            raise SettingsError(
                f"two acts are called {act.name!r}",
                hint="give each a name of its own: commands are told apart by it",
            )
        if act.rule not in known:
            raise SettingsError(
                f"{where}: there is no rule {act.rule!r}",
                hint=f"rules: {', '.join(sorted(known))}"
                if known
                else "write a rule of that name, for instance an [[edge.limit]]",
            )
        _check_address(where, act)
        if not duration(act.ttl) or not duration(act.retry):
            raise SettingsError(f"{where}: ttl and retry are longer than nothing", hint='write ttl = "5m"')
    return [
        Act(
            act.name,
            act.rule,
            act.series,
            act.device,
            act.topic,
            _command(f"[[edge.act]] {act.name!r}: command", act.command),
            _command(f"[[edge.act]] {act.name!r}: undo", act.undo) if act.undo is not None else "",
            duration(act.ttl),
            duration(act.retry),
        )
        for act in settings
    ]


def _check_address(where: str, act: ActSettings) -> None:
    _check_words(f"{where}: device", act.device, _ADDRESS)
    _check_words(f"{where}: topic", act.topic, _ADDRESS)
    names = _HOLE.sub("x", act.device).split("/")
    if len(names) != 2 or not all(map(valid_name, names)):
        raise SettingsError(
            f"{where}: device = {act.device!r} names no device",
            hint='write it as "SITE/DEVICE": "north/valve-3"',
        )
    topic = _HOLE.sub("x", act.topic)
    if not topic or any(sign in topic for sign in "+#\0") or topic.startswith("$") or topic.endswith("/"):
        raise SettingsError(
            f"{where}: topic = {act.topic!r} is no topic to publish to",
            hint='a topic without + and #, such as "hw/{site}/{device}/cmd"',
        )


def _command(where: str, command: str | dict[str, Any]) -> str:
    arguments = dict(command) if isinstance(command, dict) else {"name": command}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or not name or len(name) > 128:
        raise SettingsError(
            f"{where} has no name", hint='write "shut", or { name = "shut", valve = 2 } with arguments'
        )
    try:
        text = msgspec.json.encode({"name": name, "arguments": arguments}).decode()
        plain = msgspec.json.decode(text) == {"name": name, "arguments": arguments}
    except (TypeError, ValueError, msgspec.MsgspecError):
        plain = False
    if not plain:
        raise SettingsError(
            f"{where}: its arguments cannot be written as JSON",
            hint="text, finite numbers, true and false, lists, tables",
        )
    if len(text) > _LONGEST:
        raise SettingsError(f"{where} has more than {_LONGEST} bytes", hint="say less")
    _check_words(where, text.replace('":{}', '":{ }'), WORDS)
    return text


def _check_words(where: str, text: str, words: frozenset[str]) -> None:
    unknown = [hole for hole in _HOLE.findall(text) if hole not in words]
    if unknown:
        raise SettingsError(
            f"{where}: nothing is known of {{{unknown[0]}}}",
            hint=f"there are {', '.join(f'{{{word}}}' for word in sorted(words))}",
        )


def answer_filters(acts: Sequence[ActSettings]) -> list[str]:
    """Return the MQTT filters that let the answers to some acts' commands through."""
    return list(dict.fromkeys(_filter_of(act.topic) for act in acts))


def _filter_of(topic: str) -> str:
    return "/".join("+" if "{" in level else level for level in (topic + ANSWERS).split("/"))


OF_ORDERS = _filter_of("hw/{site}/{device}/cmd")
"""Lets the answers to orders of the cloud side through."""
