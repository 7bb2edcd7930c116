"""Payloads become columns: each message goes to its topic's codec, those of one codec at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headwater_edge import metric_settings
from headwater_edge.allowed import Allowed, Unlisted
from headwater_edge.decoded import Births, DeadLetter, Decoded, Refused, without, woven
from headwater_edge.formats import Formats
from headwater_edge.ranges import Ranges
from headwater_edge.settings import EdgeSettings
from headwater_edge.source import Burst
from headwater_edge.taking import Taking
from headwater_edge.topics import NOT_LISTED, Place, SeriesIndex, Topics
from headwater_shared.errors import Unreadable
from headwater_shared.identity import device_of

__all__ = ["Births", "DeadLetter", "Decode", "Decoded", "decoder"]


class Decode:
    """Decodes bursts.

    Args:
        formats: by default Headwater's own topics and Sparkplug's.
    """

    def __init__(
        self, index: SeriesIndex, formats: Formats | None = None, ranges: Ranges | None = None
    ) -> None:
        self.index = index
        self.formats = formats or Formats(index)
        self._json = self.formats.json
        self._ranges = ranges or Ranges(())
        self._topics = Topics(self.formats.place_of)
        self._unlisted = Unlisted(index.allowed)
        self.not_listed = 0
        """Messages of devices that may not speak, since the start."""
        self.skipped = 0
        """Values that were no readings, and messages of topics that bring none, since the start."""

    def burst(self, burst: Burst) -> Decoded:
        """Turn a burst to columns; new series are numbered by `index`, which keeps them for the tick."""
        self.index.now_us = burst.arrived_us
        self.index.allowed.refresh()
        places = self._topics.places(burst.topics)
        fast = None
        if type(places[0]) is int:
            with suppress(TypeError):  # not all are numbers of series
                fast = self._json.singles(burst.payloads, np.fromiter(places, np.int32, len(places)))
        elif set(map(type, places)) == {Place}:
            fast = self._json.manies(burst.payloads, places)
        decoded = fast if fast is not None else self._finite(self._mixed(burst, places), burst)
        if self.index.other:
            self._look_again()
        self.skipped += decoded.skipped
        if self.index.allowed:
            decoded = self._listed(decoded, burst)
        return self._in_range(decoded, burst) if self._ranges else decoded

    def follow(self, formats: Formats, ranges: Ranges) -> None:
        """Read by other formats, and other ranges of what can be, from the next burst on."""
        self.formats, self._json, self._ranges = formats, formats.json, ranges
        self._topics = Topics(formats.place_of)

    def let_go(self, numbers: Sequence[int]) -> None:
        """Forget the numbers of series that are let go, wherever they are remembered."""
        self._topics = Topics(self.formats.place_of)
        self.formats.sparkplug.let_go(numbers)

    def _look_again(self) -> None:
        """Numbers became other series'."""
        other, self.index.other = self.index.other, []
        self._unlisted.look_again(other, self.index.names)
        self._ranges.look_again(other, self.index.names)

    def learn(self, births: Iterable[tuple[bytes, bytes]]) -> None:
        """Take up the births that were kept over a restart."""
        kept = list(births)
        if kept:
            self.formats.sparkplug.learn(kept)

    def metric(self, topic: bytes, what: str) -> str:
        """Return the metric that a dead letter of a topic means by a name in its detail."""
        if topic.startswith(b"spBv1.0/") and what.startswith("alias "):
            return self.formats.sparkplug.metric(topic.decode(), what)
        return what

    def _mixed(self, burst: Burst, places: list[Any]) -> Decoded:
        """Decode a burst of several codecs, or one that is not all alike."""
        groups: dict[Any, list[int]] = {}
        for message, place in enumerate(places):
            groups.setdefault(_codec(place), []).append(message)
        parts: list[tuple[Sequence[int], Decoded]] = []
        for codec, which in groups.items():
            decoded = None
            if len(groups) > 1 and codec is int:
                numbers = np.array([places[i] for i in which], np.int32)
                decoded = self._json.singles([burst.payloads[i] for i in which], numbers)
            elif len(groups) > 1 and codec is Place:
                decoded = self._json.manies([burst.payloads[i] for i in which], [places[i] for i in which])
            if decoded is None:
                decoded = self._taken(codec, burst, which, places)
            parts.append((which, decoded))
        return woven(parts, len(places))

    def _taken(self, codec: Any, burst: Burst, which: list[int], places: list[Any]) -> Decoded:
        taking = Taking()
        take: Callable[[Burst, Sequence[int], list[Any], Taking], None]
        take = _refuse if codec is Unreadable else self._json.take if codec in (int, Place) else codec.take
        take(burst, which, places, taking)
        return taking.decoded()

    def _finite(self, decoded: Decoded, burst: Burst) -> Decoded:
        """Take out NaN and infinities (R20)."""
        bad = ~np.isfinite(decoded.value)
        if not bad.any():
            return decoded
        refused = [
            Refused(self._metric(series), "no finite number") for series in decoded.series[bad].tolist()
        ]
        return without(decoded, bad, refused, burst.topics, burst.payloads)

    def _listed(self, decoded: Decoded, burst: Burst) -> Decoded:
        """Take out readings of devices that may not speak (any more): they are dead letters `not-listed`."""
        bad = self._unlisted.of(decoded.series, self.index.names)
        if bad.any():
            allowed, names = self.index.allowed, self.index.names
            refused = [
                Refused(self._metric(series), allowed.refused(device_of(names[series])), NOT_LISTED)
                for series in decoded.series[bad].tolist()
            ]
            decoded = without(decoded, bad, refused, burst.topics, burst.payloads)
        self.not_listed += sum(1 for letter in decoded.dead if letter.reason == NOT_LISTED)
        return decoded

    def _in_range(self, decoded: Decoded, burst: Burst) -> Decoded:
        """Take out readings that cannot be: they are dead letters `out-of-range`."""
        bad = self._ranges.outside(decoded.series, decoded.value, self.index.names)
        if not bad.any():
            return decoded
        refused = [
            Refused(self._metric(series), f"{value:g} is {self._ranges.said(series)}", "out-of-range")
            for series, value in zip(decoded.series[bad].tolist(), decoded.value[bad].tolist(), strict=True)
        ]
        return without(decoded, bad, refused, burst.topics, burst.payloads)

    def _metric(self, series: int) -> str:
        return self.index.names[series].rpartition("/")[2]


def decoder(settings: EdgeSettings, index: SeriesIndex, folder: Path = Path()) -> Decode:
    """Make the decoder of an agent; `folder` is that of its data.

    Raises:
        SettingsError: a format or a metric that cannot be.
    """
    formats, ranges = reading(settings, index)
    index.allowed = Allowed(settings.devices.only, folder)
    index.counts_up = partial(metric_settings.counts_up, settings.metric)
    return Decode(index, formats, ranges)


def reading(
    settings: EdgeSettings, index: SeriesIndex, before: Formats | None = None
) -> tuple[Formats, Ranges]:
    """Return how payloads are read under some settings.

    Args:
        before: the formats until now, whose Sparkplug nodes need not say again who they are.

    Raises:
        SettingsError: a format or a metric that cannot be.
    """
    metric_settings.check(settings.metric)
    sparkplug = before.sparkplug if before else None
    formats = Formats(index, settings.format, settings.site, settings.act, sparkplug)
    return formats, Ranges(settings.metric)


def _codec(place: Any) -> Any:
    """Return by whom a place's payloads are read; the type of the place for Headwater's JSON."""
    kind = type(place)
    if kind is int or kind is Place or kind is Unreadable:
        return kind
    return place.codec


def _refuse(burst: Burst, which: Sequence[int], places: list[Any], taking: Taking) -> None:
    for message in which:
        taking.refuse(message, places[message], burst.topics[message], burst.payloads[message])
