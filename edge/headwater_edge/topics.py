"""Series by number, and what each topic means, looked up once a topic."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from headwater_edge.allowed import Allowed
from headwater_edge.meaning import RATE
from headwater_shared.errors import Unreadable
from headwater_shared.identity import device_of, series_name, valid_name

_REMEMBERED = 100_000
"""Topics that are remembered; a flood of others empties the memory, and costs time only."""
NOT_LISTED = "not-listed"
_HOUR_US = 3_600_000_000
_OUR_NAMES = str.maketrans({"/": ".", "+": "_", "#": "_"})


def our_name(text: str) -> str:
    """Turn a name that others gave to one that can stand in a series: / becomes a dot, + and # an underscore."""
    return text.translate(_OUR_NAMES)


class SeriesIndex:
    """Numbers series in the order of first sight, up to a cap; `fresh` holds those that no tick has taken yet.

    A number whose series was let go is another's, the smallest first.

    Args:
        names: of the series that are known already; empty where a number is free.
        cap: how many there may be.
        per_hour: how many new ones an hour brings, of which a whole hour's worth may come at once.
    """

    def __init__(self, names: list[str], cap: int, per_hour: int | None = None) -> None:
        self.know(names)
        self.cap = cap
        self._per_hour = per_hour
        self._left = float(per_hour or 0)
        self._left_at_us = 0
        self.now_us = 0
        """Wall time of the burst that is decoded."""
        self.fresh: list[str] = []
        self._fresh_numbers: list[int] = []
        self.taken: list[int] = []
        """The numbers of those that were fresh, as a tick has them: none if they are the next ones."""
        self.other: list[int] = []
        """Numbers that became another series', for columns by number to look at."""
        self.allowed = Allowed()
        """Which devices may have series."""
        self.counts_up: Callable[[str], bool] = lambda _name: False
        """Whether a series is a counter, and so has another beside it for its rate."""

    def __len__(self) -> int:
        """Return how many series there are."""
        return len(self._numbers)

    def follow(self, cap: int, per_hour: int, counts_up: Callable[[str], bool]) -> None:
        """Go by other settings; series that are counters by now get one for their rate."""
        self.cap = cap
        if per_hour != self._per_hour:
            self._per_hour, self._left = per_hour, min(self._left, float(per_hour))
        self.counts_up = counts_up
        self.add_rates()

    def know(self, names: list[str]) -> None:
        """Take up the series that an agent's file knows, before any other."""
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(names) if name}
        self._free = [number for number, name in enumerate(names) if not name]
        self._known = len(names)

    def number(self, name: str) -> int | Unreadable:
        """Return the number of a series; a new one may be refused."""
        number = self._numbers.get(name)
        if number is not None:
            return number
        if not self.allowed.allows(device_of(name)):
            return Unreadable(self.allowed.refused(device_of(name)), reason=NOT_LISTED)
        if len(self) >= self.cap:
            return Unreadable(f"more than {self.cap} series (edge.max_series)", reason="too-many-series")
        if not self._may_register():
            return Unreadable(
                f"more than {self._per_hour} new series an hour (edge.new_series_per_hour)",
                reason="too-many-new-series",
            )
        number = self._register(name)
        if name + RATE not in self._numbers and self.counts_up(name):
            self._register(name + RATE)
        return number

    def add_rates(self) -> None:
        """Number the rates of known series that are counters by now."""
        for name in [
            name for name in self._numbers if name + RATE not in self._numbers and self.counts_up(name)
        ]:
            self._register(name + RATE)

    def _register(self, name: str) -> int:
        if self._free:
            number = heapq.heappop(self._free)
            self.names[number] = name
            self.other.append(number)
        else:
            number = len(self.names)
            self.names.append(name)
        self._numbers[name] = number
        self.fresh.append(name)
        self._fresh_numbers.append(number)
        return number

    def let_go(self, numbers: Sequence[int]) -> None:
        """Forget series, as the tick that was just made will; whoever remembers their numbers must forget them, too."""
        for number in numbers:
            del self._numbers[self.names[number]]
            self.names[number] = ""
            heapq.heappush(self._free, number)

    def _may_register(self) -> bool:
        if self._per_hour is None:
            return True
        passed_us = max(0, self.now_us - self._left_at_us) if self._left_at_us else 0
        self._left = min(float(self._per_hour), self._left + self._per_hour * passed_us / _HOUR_US)
        self._left_at_us = self.now_us
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def take_fresh(self) -> list[str]:
        """Hand the series that are new to the tick that brings them."""
        fresh, self.fresh = self.fresh, []
        numbers, self._fresh_numbers = self._fresh_numbers, []
        plain = numbers == list(range(self._known, len(self.names)))
        self.taken = [] if plain else numbers
        self._known = len(self.names)
        return fresh


class Place:
    """A device's topic that names values in the payload: the series of each metric seen."""

    __slots__ = ("device", "metrics", "site")

    def __init__(self, site: str, device: str) -> None:
        self.site = site
        self.device = device
        self.metrics: dict[str, int] = {}

    def number(self, index: SeriesIndex, metric: str) -> int | Unreadable:
        """Return the number of a metric's series."""
        known = self.metrics.get(metric)
        if known is not None:
            return known
        if not valid_name(metric):
            return Unreadable("no name for a metric", reason="not-taken")
        number = index.number(series_name(self.site, self.device, metric))
        if isinstance(number, int):
            self.metrics[metric] = number
        return number

    def let_go(self, numbers: frozenset[int]) -> None:
        """Forget the numbers of series."""
        self.metrics = {metric: number for metric, number in self.metrics.items() if number not in numbers}


class Topics:
    """What topics mean, remembered: the number of a series, or a place whose codec knows more."""

    def __init__(self, place_of: Callable[[str], Any]) -> None:
        self._place_of = place_of
        self._places: dict[bytes, Any] = {}

    def places(self, topics: list[bytes]) -> list[Any]:
        """Return for each topic the number of its series, a place, or `Unreadable` if it is none of ours."""
        found = list(map(self._places.get, topics))
        if None in found:
            for at, place in enumerate(found):
                if place is None:
                    found[at] = self._resolve(topics[at])
        return found

    def _resolve(self, topic: bytes) -> Any:
        known = self._places.get(topic)  # earlier in this burst
        if known is not None:
            return known
        if len(self._places) >= _REMEMBERED:
            self._places.clear()
        try:
            place = self._place_of(topic.decode())
        except UnicodeDecodeError:
            return Unreadable("a topic that is no UTF-8", reason="bad-topic")
        except Unreadable as error:
            return error
        self._places[topic] = place
        return place
