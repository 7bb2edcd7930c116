"""Foreign JSON: the settings say where site, device and metric stand in the topic, and values and time in the payload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from headwater_edge.decoded import Refused
from headwater_edge.format_settings import FormatSettings
from headwater_edge.patterns import Where
from headwater_edge.payloads import NOT_PARSED, WORDS
from headwater_edge.source import Burst
from headwater_edge.stamps import stamp_us
from headwater_edge.taking import Taking
from headwater_edge.topics import Place, SeriesIndex, our_name
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable

Path = tuple[str, ...]

_SKIPPED = -1
_BRANCHES = 4096
"""Names that are remembered a topic; more empty the memory, and cost time only."""

_DEEPEST = 32

_json = msgspec.json.Decoder()


class _Branch:
    """An object at one place of the payloads of a topic: the series of the values in it, and the objects in it."""

    __slots__ = ("branches", "depth", "leaves", "path")

    def __init__(self, path: str, depth: int = 0) -> None:
        self.path = path
        self.depth = depth
        self.leaves: dict[str, int] = {}
        self.branches: dict[str, _Branch] = {}


class MappingPlace:
    """A topic whose payloads a mapping reads."""

    __slots__ = ("codec", "metric", "names", "place", "root")

    def __init__(self, codec: Mapping, where: Where) -> None:
        settings = codec.settings
        self.codec = codec
        self.place = Place(where.site or settings.site, where.device or settings.device)
        self.metric = where.metric or ""
        self.forget()

    def forget(self) -> None:
        """Begin with an empty memory."""
        self.root = _Branch(self.metric)
        self.names = 0


class Mapping:
    """Reads JSON by one `[[edge.format]]`."""

    def __init__(self, settings: FormatSettings, index: SeriesIndex) -> None:
        self.settings = settings
        self._index = index
        self._time = _path(settings.time)
        self._rows = _path(settings.rows)
        self._values = [(metric, _path(path)) for metric, path in settings.values.items()]

    def place(self, where: Where) -> MappingPlace:
        """Make the place of a topic."""
        return MappingPlace(self, where)

    def take(
        self, burst: Burst, which: Sequence[int], places: Sequence[MappingPlace], taking: Taking
    ) -> None:
        """Decode messages one after the other: each is parsed by itself, so that none forges another's (R16)."""
        decode = _json.decode
        for message in which:
            topic, payload, place = burst.topics[message], burst.payloads[message], places[message]
            refused: list[Refused] = []
            try:
                try:
                    said = decode(payload)
                except NOT_PARSED as error:
                    said = _text(payload, error)
                self._message(place, said, taking, refused)
            except Unreadable as error:
                taking.refuse(message, error, topic, payload)
            else:
                taking.took_but(message, refused, topic, payload)

    def _message(self, place: MappingPlace, said: Any, taking: Taking, refused: list[Refused]) -> None:
        held = _find(said, self._rows)
        if held is None and self._rows:
            taking.skipped += 1  # another kind of message of the same topic
            return
        for row in held if isinstance(held, list) and self._rows else [held]:
            before = len(taking.series)
            time = self._time_of(row, said)
            if self._values:
                self._named(place, row, taking, refused)
            elif type(row) is dict:
                self._all(place, place.root, row, taking, refused)
            elif type(row) is list:
                self._all(place, place.root, _numbered(row), taking, refused)
            else:
                self._bare(place, row, taking, refused)
            taking.sent += [time] * (len(taking.series) - before)

    def _time_of(self, row: Any, said: Any) -> int:
        if not self._time:
            return NO_TIME
        time = _find(row, self._time)
        if time is None and row is not said:
            time = _find(said, self._time)
        return NO_TIME if time is None else stamp_us(time)

    def _all(
        self,
        place: MappingPlace,
        branch: _Branch,
        said: dict[str, Any],
        taking: Taking,
        refused: list[Refused],
    ) -> None:
        """Take every number and switch of an object, and of the objects and lists in it."""
        leaves, series, values = branch.leaves, taking.series, taking.values
        for key, value in said.items():
            kind = type(value)
            if kind is float or kind is int or kind is bool:
                number = leaves.get(key)
            elif kind is dict or kind is list:
                inner = branch.branches.get(key) or self._branch(place, branch, key)
                self._all(place, inner, value if kind is dict else _numbered(value), taking, refused)
                continue
            else:
                value = WORDS.get(value.lower()) if kind is str else None  # noqa: PLW2901 - ON is a number
                if value is None:
                    taking.skipped += 1
                    continue
                number = leaves.get(key)
            if number is None:
                number = self._leaf(place, branch, key, refused)
            if number >= 0:
                series.append(number)
                values.append(value)

    def _branch(self, place: MappingPlace, branch: _Branch, key: str) -> _Branch:
        if branch.depth > _DEEPEST:
            raise Unreadable("objects in objects in objects ...", reason="unreadable")
        inner = _Branch(f"{branch.path}.{key}" if branch.path else key, branch.depth + 1)
        self._remember(place)
        branch.branches[key] = inner
        return inner

    def _leaf(self, place: MappingPlace, branch: _Branch, key: str, refused: list[Refused]) -> int:
        """Find the series of a value for the first time; `_SKIPPED` if it has none."""
        path = f"{branch.path}.{key}" if branch.path else key
        metric = our_name(self.settings.rename.get(path, path))
        number: int | Unreadable = _SKIPPED
        if path != self.settings.time and not any(fnmatchcase(path, skip) for skip in self.settings.skip):
            number = place.place.number(self._index, metric)
        if isinstance(number, Unreadable):
            refused.append(Refused(metric, number.message, number.reason))
            return _SKIPPED  # this once
        self._remember(place)
        branch.leaves[key] = number
        return number

    def _remember(self, place: MappingPlace) -> None:
        place.names += 1
        if place.names > _BRANCHES:
            place.forget()

    def _named(self, place: MappingPlace, row: Any, taking: Taking, refused: list[Refused]) -> None:
        """Take the values that the settings name."""
        for metric, path in self._values:
            for matched, value in _every(row, path):
                number = _number(value)
                if number is None:
                    taking.skipped += 1
                    continue
                name = metric.replace("*", ".".join(matched)) if matched else metric
                self._put(place, f"{place.metric}.{name}" if place.metric else name, number, taking, refused)

    def _bare(self, place: MappingPlace, value: Any, taking: Taking, refused: list[Refused]) -> None:
        """Take a payload that is the value itself."""
        number = _number(value)
        if number is None:
            taking.skipped += 1
            return
        metric = place.metric or self.settings.metric
        if not metric:
            raise Unreadable("a value without a name, on a topic without a metric", reason="no-metric")
        if not any(fnmatchcase(metric, skip) for skip in self.settings.skip):
            self._put(place, self.settings.rename.get(metric, metric), number, taking, refused)

    def _put(
        self, place: MappingPlace, metric: str, value: float, taking: Taking, refused: list[Refused]
    ) -> None:
        metric = our_name(metric)
        number = place.place.number(self._index, metric)
        if isinstance(number, Unreadable):
            refused.append(Refused(metric, number.message, number.reason))
        else:
            taking.series.append(number)
            taking.values.append(value)


def _path(text: str) -> Path:
    return tuple(text.split(".")) if text else ()


def _find(said: Any, path: Path) -> Any:
    """Return what stands at a path, None if nothing does."""
    for key in path:
        if type(said) is dict:
            said = said.get(key)
        elif type(said) is list and key.isdecimal() and len(key) < 10 and int(key) < len(said):
            said = said[int(key)]
        else:
            return None
    return said


def _every(said: Any, path: Path, matched: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield all that stands at a path, each with what its asterisks stand for."""
    if "*" not in path:
        found = _find(said, path)
        if found is not None:
            yield matched, found
        return
    at = path.index("*")
    held = _find(said, path[:at])
    items = held.items() if type(held) is dict else enumerate(held) if type(held) is list else ()
    for key, inner in items:
        yield from _every(inner, path[at + 1 :], (*matched, str(key)))


def _numbered(items: list[Any]) -> dict[str, Any]:
    return {str(at): item for at, item in enumerate(items)}


def _number(value: Any) -> float | None:
    """Read a value that somebody named: numbers in quotes, too."""
    match value:
        case bool() | int() | float():
            return value
        case str() if value.lower() in WORDS:
            return WORDS[value.lower()]
        case str() if len(value) <= 64 and "_" not in value:
            try:
                return float(value)
            except ValueError:
                return None
        case _:
            return None


def _text(payload: bytes, error: Exception) -> str:
    """Read a payload that is no JSON: plain text such as ON, 21.5 or unavailable."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        raise Unreadable(str(error), reason="unreadable") from None
    if not text or text[0] in '{["' or len(text) > 1024:
        raise Unreadable(
            str(error) if payload else "an empty payload", reason="unreadable" if payload else "empty"
        )
    return text
