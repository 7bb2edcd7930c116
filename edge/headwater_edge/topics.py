"""Topics to series: `hw/{site}/{device}/data` and `hw/{site}/{device}/data/{metric}`, looked up once a topic."""

from __future__ import annotations

from typing import Any

from headwater_shared.errors import Unreadable
from headwater_shared.identity import series_name, valid_name

_REMEMBERED = 100_000
"""Topics that are remembered; a flood of others empties the memory, and costs time only."""


class Place:
    """A device's topic that names values in the payload: the series of each metric seen."""

    __slots__ = ("device", "metrics", "site")

    def __init__(self, site: str, device: str) -> None:
        self.site = site
        self.device = device
        self.metrics: dict[str, int] = {}


class SeriesIndex:
    """Numbers series in the order of first sight, up to a cap; `fresh` holds those that no tick has taken yet."""

    def __init__(self, names: list[str], cap: int) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._cap = cap
        self._places: dict[bytes, Any] = {}
        self.fresh: list[str] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def names_of(self, numbers: list[int]) -> list[str]:
        """Return the names of series, for the rare cases that need them."""
        names = {number: name for name, number in self._numbers.items()}
        return [names[number] for number in numbers]

    def places(self, topics: list[bytes]) -> list[Any]:
        """Return for each topic the number of its series, a `Place`, or `Unreadable` if it is none of ours."""
        found = list(map(self._places.get, topics))
        if None in found:
            for at, place in enumerate(found):
                if place is None:
                    found[at] = self._resolve(topics[at])
        return found

    def number(self, topic: bytes, metric: str) -> int | Unreadable:
        """Return the number of a metric of the device that a topic names."""
        place = self._places.get(topic)
        if not isinstance(place, Place):
            site, device = topic.decode().split("/")[1:3]
            place = Place(site, device)
        known = place.metrics.get(metric)
        if known is not None:
            return known
        if not valid_name(metric):
            return Unreadable("no name for a metric", reason="bad-name")
        number = self._number(series_name(place.site, place.device, metric))
        if isinstance(number, int):
            place.metrics[metric] = number
        return number

    def _resolve(self, topic: bytes) -> Any:
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        place = self._parsed(topic)
        if not isinstance(place, Unreadable):
            self._places[topic] = place
        return place

    def _parsed(self, topic: bytes) -> Any:
        try:
            words = topic.decode().split("/")
        except UnicodeDecodeError:
            return Unreadable("a topic that is no UTF-8", reason="bad-topic")
        ours = len(words) in (4, 5) and words[0] == "hw" and words[3] == "data"
        if not ours or not all(valid_name(word) for word in words[1:]):
            return Unreadable(
                "a topic that is not hw/{site}/{device}/data or hw/{site}/{device}/data/{metric}",
                reason="bad-topic",
            )
        if len(words) == 4:
            return Place(words[1], words[2])
        return self._number(series_name(words[1], words[2], words[4]))

    def _number(self, name: str) -> int | Unreadable:
        number = self._numbers.get(name)
        if number is None:
            if len(self._numbers) >= self._cap:
                return Unreadable(
                    f"more than {self._cap} series; raise edge.max_series", reason="too-many-series"
                )
            number = self._numbers[name] = len(self._numbers)
            self.fresh.append(name)
        return number

    def take_fresh(self) -> list[str]:
        """Hand the series that are new to the tick that brings them."""
        fresh, self.fresh = self.fresh, []
        return fresh
