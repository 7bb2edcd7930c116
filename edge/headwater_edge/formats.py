"""Which codec reads a topic: the settings' formats in their order, then Headwater's own topics and Sparkplug's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from headwater_edge.acks import Answers
from headwater_edge.acts import ANSWERS, ActSettings
from headwater_edge.availability import Availability
from headwater_edge.format_settings import FormatSettings, resolved
from headwater_edge.influx import Influx
from headwater_edge.json_codec import JsonCodec
from headwater_edge.mapping import Mapping
from headwater_edge.patterns import Pattern, Where
from headwater_edge.senml import SenML
from headwater_edge.source import Burst
from headwater_edge.sparkplug import Sparkplug
from headwater_edge.taking import Taking
from headwater_edge.topics import Place, SeriesIndex
from headwater_shared.errors import SettingsError, Unreadable
from headwater_shared.identity import series_name, valid_name

OURS = (
    FormatSettings(topics=("hw/{site}/{device}/data/{metric}", "hw/{site}/{device}/data"), codec="json"),
    FormatSettings(topics=("hw/{site}/{device}/senml",), codec="senml"),
    FormatSettings(topics=("hw/{site}/{device}/influx",), codec="influx"),
    FormatSettings(topics=("spBv1.0/#",), codec="sparkplug"),
    FormatSettings(availability=("hw/{site}/{device}/status",)),
)
"""What is read without any settings."""

_COMMANDS = "hw/{site}/{device}/cmd"
"""Ours: an agent that subscribes to all hears its own, which mean nothing to it."""
_OF_MAPPING = ("metric", "time", "rows", "values", "rename", "skip")


class Codec(Protocol):
    """Reads the payloads of some topics."""

    def place(self, where: Where) -> Any:
        """Make what is remembered of a topic; its `codec` is this one.

        Raises:
            Unreadable: the topic is no way to say what this codec needs.
        """

    def take(self, burst: Burst, which: Sequence[int], places: Sequence[Any], taking: Taking) -> None:
        """Take messages `which` of a burst; each ends with one call of `took`, `took_but` or `refuse`.

        Args:
            places: of all messages of the burst; those of `which` are of this codec.
        """


class _Json:
    """Headwater's JSON, whose places are older than codecs: the number of a series, or a `Place`."""

    def __init__(self, site: str, device: str, index: SeriesIndex) -> None:
        self._site, self._device, self._index = site, device, index

    def place(self, where: Where) -> Any:
        site, device = where.site or self._site, where.device or self._device
        if where.metric is None:
            return Place(site, device)
        number = self._index.number(series_name(site, device, where.metric))
        if isinstance(number, Unreadable):
            raise number
        return number


class _Ignored:
    """Topics that bring no readings."""

    def __init__(self) -> None:
        self.codec = self

    def take(self, burst: Burst, which: Sequence[int], places: Sequence[Any], taking: Taking) -> None:
        for _ in which:
            taking.skipped += 1
            taking.took()


class Formats:
    """All formats of an agent.

    Raises:
        SettingsError: a format that cannot be.
    """

    def __init__(
        self,
        index: SeriesIndex,
        settings: Sequence[FormatSettings] = (),
        site: str = "site-1",
        acts: Sequence[ActSettings] = (),
        sparkplug: Sparkplug | None = None,
    ) -> None:
        if not valid_name(site):
            raise SettingsError(f"edge.site = {site!r} is no name", hint="1 to 128 characters without / + #")
        self.sparkplug = sparkplug or Sparkplug(index)
        self.json = JsonCodec(index)
        self._ignored = _Ignored()
        answers = Answers()
        commanded = list(dict.fromkeys([_COMMANDS, *(act.topic for act in acts)]))
        self._rules: list[tuple[Pattern, Any]] = [
            rule
            for topic in commanded
            for rule in ((Pattern(topic + ANSWERS), answers), (Pattern(topic), self._ignored))
        ]
        for one in [*resolved(tuple(settings), site), *OURS]:
            codec, availability = self._codec(one, index), Availability(one)
            patterns = [Pattern(topic) for topic in one.topics]
            says = [Pattern(topic) for topic in one.availability]
            _check_availability(one, patterns, says)
            _check(one, patterns)
            self._rules += [(pattern, availability) for pattern in says]
            self._rules += [(Pattern(topic), self._ignored) for topic in one.ignore]
            self._rules += [(pattern, codec) for pattern in patterns]

    def place_of(self, topic: str) -> Any:
        """Return what a topic means.

        Raises:
            Unreadable: no format is for it, or it lacks a name.
        """
        for pattern, codec in self._rules:
            where = pattern.match(topic)
            if where is not None:
                if codec is self._ignored:
                    return codec
                if codec is self.sparkplug:
                    return self.sparkplug.place_of(topic)
                return codec.place(where)
        raise Unreadable(
            "a topic of no format; hw/{site}/{device}/data, or one of [[edge.format]]", reason="bad-topic"
        )

    def reads(self, topic: str) -> bool:
        """Tell whether a format is for a topic; nothing is remembered of it, and no series numbered."""
        try:
            return any(pattern.match(topic) is not None for pattern, _ in self._rules)
        except Unreadable:
            return False

    def filters(self) -> list[str]:
        """Return the MQTT topic filters that let through all that is read."""
        return list(
            dict.fromkeys(pattern.filter for pattern, codec in self._rules if codec is not self._ignored)
        )

    def _codec(self, settings: FormatSettings, index: SeriesIndex) -> Any:
        match settings.codec:
            case "json":
                return _Json(settings.site, settings.device, index)
            case "senml":
                return SenML(settings, index)
            case "influx":
                return Influx(settings, index)
            case "sparkplug":
                return self.sparkplug
            case _:
                return Mapping(settings, index)


def _check_availability(settings: FormatSettings, patterns: list[Pattern], says: list[Pattern]) -> None:
    if not patterns and not says:
        raise SettingsError(
            "an [[edge.format]] has neither use nor topics",
            hint='write topics = ["meters/{device}/data"], for example',
        )
    for pattern in says:
        if not (settings.device or pattern.names("device")):
            raise SettingsError(
                f"[[edge.format]] availability = {pattern.text!r}: nothing says which device it is of",
                hint="put {device} into it, or set device",
            )


def _check(settings: FormatSettings, patterns: list[Pattern]) -> None:
    where = f"[[edge.format]] topics = {list(settings.topics)}"
    if settings.codec != "mapping":
        wrong = [key for key in _OF_MAPPING if getattr(settings, key)]
        if wrong:
            raise SettingsError(
                f"{where}: {wrong[0]} is for the codec mapping, not {settings.codec}",
                hint="take one of the two out",
            )
    if settings.codec in ("mapping", "json") and not settings.device:
        without = [pattern.text for pattern in patterns if not pattern.names("device")]
        if without:
            raise SettingsError(
                f"{where}: nothing says which device {without[0]} is of",
                hint="put {device} into it, or set device",
            )
    for key in ("site", "device", "metric"):
        name = getattr(settings, key)
        if name and not valid_name(name):
            raise SettingsError(
                f"{where}: {key} = {name!r} is no name", hint="1 to 128 characters without / + #"
            )
    for path in (settings.time, settings.rows, *settings.values.values()):
        if path and not all(path.split(".")):
            raise SettingsError(
                f"{where}: {path!r} is no path", hint="names with dots between: meta.ts, phases.0.p"
            )
    for metric, path in settings.values.items():
        if metric.count("*") > 1 or ("*" in metric) != ("*" in path.split(".")):
            raise SettingsError(
                f"{where}: {metric!r} = {path!r}: what its * stands for must be in both",
                hint='"power.*" = "phases.*.p"',
            )
