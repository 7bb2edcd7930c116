"""Stage two of a comparison: what the shards have of each cohort and window, joined and judged, and what was found (R25).

The state of one partition of `hw-by-cohort`, in pieces (R24): of each shard and window the records that were made last, as they came.
A window is judged each time that they change: what was found is a function of the latest records of all shards, whatever order they came
in and however often. It is not judged while a shard that lately had devices of the cohort has said nothing of it, unless that takes
longer than a while by the clock: else half a cohort would make findings that are taken back a moment later.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud.pieces import Listed, Pieces
from headwater_shared import peers
from headwater_shared.identity import stable_id
from headwater_shared.peers import Peers, PeersHead
from headwater_shared.squeeze import squeezed

PATIENCE_US = 30_000_000
"""By the clock of stage two: so long a window waits for a shard that had devices of its cohort lately."""
LATELY = 10
"""Lengths of a window: a shard that said nothing of a cohort for so long has no devices of it any more."""
KEEP_US = 7 * 86_400_000_000
"""As long as windows may be revised by default (R28); what comes for older ones is counted, and changes nothing."""
_MOST_WAITING = 2_000
"""Windows of a cohort; of more, those that waited longest wait no longer."""
_STAYS_US = 120_000_000
"""So long by the clock a window stays in memory after it was touched."""
_SPAN = 1_000
"""Windows whose starts are listed in one piece."""
_DELETED_AT_ONCE = 200
_REMEMBERED = 256
"""Lists of names whose numbers are known."""

Ints = NDArray[np.int64]

Key = tuple[str, str, str, str]
"""Rule, cohort, metric and level."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What was said of a device in a window: that it is an outlier."""

    shard: int
    agent: str
    check: int
    """A short hash of it."""


class OfShard(msgspec.Struct, array_like=True):
    """Which records of a shard count."""

    rank: tuple[int, int, int]
    """Clock, readings, how many pieces."""
    pieces: dict[int, int]
    """A short hash of each."""


class Window(msgspec.Struct, array_like=True):
    """One window of a cohort."""

    start: int
    shards: dict[int, OfShard] = {}
    told: dict[str, Told] = {}
    made_us: int = 0
    """Of its latest findings."""
    touched_us: int = 0

    @property
    def records(self) -> Iterator[tuple[int, int]]:
        """Shard and piece of each record that counts."""
        return ((shard, piece) for shard, one in sorted(self.shards.items()) for piece in sorted(one.pieces))


class Cohort(msgspec.Struct, array_like=True):
    """What is known of a cohort by one rule, beside its windows."""

    rule: str
    cohort: str
    metric: str
    level: str
    length_us: int
    """Of a window."""
    shards: dict[int, int] = {}
    """Of each shard the start of the newest window that it had devices in."""
    waiting: dict[int, int] = {}
    """Start of each window that is to be judged, and since when by the clock."""
    spans: list[int] = []
    """Which pieces of starts there are, ascending."""

    @property
    def key(self) -> Key:
        return self.rule, self.cohort, self.metric, self.level

    @property
    def id(self) -> str:
        return stable_id(*self.key)


class Devices:
    """Numbers for names of devices, in the order of first sight."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lists: dict[int, tuple[list[str], Ints]] = {}

    def of(self, names: list[str]) -> Ints:
        """Return the number of each; the same list again (records share it) is not looked at again."""
        known = self._lists.get(id(names))
        if known is None or known[0] is not names:
            if len(self._lists) >= _REMEMBERED:
                self._lists.clear()
            numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
            known = self._lists[id(names)] = names, np.array(numbers, np.int64)
        return known[1]


class Cohorts:
    """One partition's. After an error it is worth nothing: make it anew from the pieces."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._listed = Listed(pieces)
        self.clock_us = 0
        self.devices = Devices()
        self.late = 0
        """Records of the batch that came for windows that are no longer kept."""
        self._cohorts: dict[Key, Cohort] = {}
        for name, body in self._listed:
            if name == _CLOCK:
                self.clock_us = msgspec.msgpack.decode(body, type=int)
            else:
                one = msgspec.msgpack.decode(body, type=Cohort)
                self._cohorts[one.key] = one
        self._windows: dict[tuple[Key, int], tuple[Window, dict[tuple[int, int], Peers]]] = {}
        self._changed: set[Key] = set()

    def take(self, some: Iterable[Peers], clock_us: int) -> None:
        """Take records in, in any order and as often as they come."""
        self._clock(clock_us)
        for one in some:
            self._clock(one.head.clock_us)
            self._take(one)

    def due(self) -> Iterator[tuple[Cohort, Window, list[Peers]]]:
        """Yield what is to be judged now, each with the records that count; put what was found back with `tell`."""
        for cohort in [one for one in self._cohorts.values() if one.waiting]:
            for start in self._ready(cohort):
                del cohort.waiting[start]
                self._changed.add(cohort.key)
                window, bodies = self._open(cohort, start)
                yield cohort, window, [self._body(cohort, window, bodies, *at) for at in window.records]

    def tell(self, cohort: Cohort, window: Window, told: dict[str, Told]) -> int:
        """Note what was found of a window; return the time of it."""
        window.told = told
        window.made_us = max(self.clock_us, window.made_us + 1)
        self._write(cohort, window)
        return window.made_us

    def end_batch(self) -> None:
        """Write what changed, let go of what is old."""
        for at, (window, _) in list(self._windows.items()):
            if window.touched_us < self.clock_us - _STAYS_US:
                del self._windows[at]
        left = _DELETED_AT_ONCE
        for cohort in self._cohorts.values():
            left -= self._delete_old(cohort, left) if left else 0
        changed = {self._cohorts[key].id: self._cohorts[key] for key in self._changed}
        bodies: Mapping[str, bytes] = {name: msgspec.msgpack.encode(one) for name, one in changed.items()}
        self._listed.update({_CLOCK: msgspec.msgpack.encode(self.clock_us), **bodies}.items())
        self._changed.clear()

    def _clock(self, clock_us: int) -> None:
        self.clock_us = max(self.clock_us, clock_us)

    def _take(self, one: Peers) -> None:
        head = one.head
        key = (head.rule, head.cohort, head.metric, head.level)
        if head.start_us + head.length_us < self.clock_us - KEEP_US:
            self.late += 1
            return
        cohort = self._cohorts.setdefault(key, Cohort(*key, head.length_us))
        window, bodies = self._open(cohort, head.start_us)
        body = one.body or peers.encode(one)
        if not self._counts(cohort, window, head, crc32(body)):
            return
        bodies[head.shard, head.piece] = one
        self._pieces.set(_body(cohort, window.start, head.shard, head.piece), squeezed(body))
        self._write(cohort, window)
        if one.devices:
            cohort.shards[head.shard] = max(cohort.shards.get(head.shard, head.start_us), head.start_us)
        cohort.waiting.setdefault(head.start_us, self.clock_us)
        self._changed.add(key)

    def _counts(self, cohort: Cohort, window: Window, head: PeersHead, check: int) -> bool:
        """Note a record if it is of those that count: the latest of its shard. Tell whether it is news."""
        rank = (head.clock_us, head.readings, head.pieces)
        known = window.shards.get(head.shard)
        if known is None or rank > known.rank:
            for piece in known.pieces if known else ():
                self._forget(cohort, window, head.shard, piece)
            known = window.shards[head.shard] = OfShard(rank, {})
        if rank < known.rank or check <= known.pieces.get(head.piece, -1):
            return False
        known.pieces[head.piece] = check
        return True

    def _ready(self, cohort: Cohort) -> list[int]:
        """Return the starts that need not wait."""
        lately = LATELY * cohort.length_us
        over = len(cohort.waiting) - _MOST_WAITING
        out = []
        for number, (start, since_us) in enumerate(sorted(cohort.waiting.items(), key=lambda one: one[::-1])):
            if number < over or self.clock_us - since_us >= PATIENCE_US:
                out.append(start)
                continue
            window, _ = self._open(cohort, start)
            expected = {shard for shard, newest in cohort.shards.items() if newest >= start - lately}
            if all(
                (one := window.shards.get(shard)) and len(one.pieces) == one.rank[2]
                for shard in expected | window.shards.keys()
            ):
                out.append(start)
        return sorted(out)

    def _open(self, cohort: Cohort, start: int) -> tuple[Window, dict[tuple[int, int], Peers]]:
        at = (cohort.key, start)
        known = self._windows.get(at)
        if known is None:
            body = self._pieces.get(_window(cohort, start))
            known = msgspec.msgpack.decode(body, type=Window) if body else Window(start), {}
            self._windows[at] = known
            if body is None:
                self._list(cohort, start)
        known[0].touched_us = self.clock_us
        return known

    def _body(
        self, cohort: Cohort, window: Window, bodies: dict[tuple[int, int], Peers], shard: int, piece: int
    ) -> Peers:
        found = bodies.get((shard, piece))
        if found is None:
            body = self._pieces.get(_body(cohort, window.start, shard, piece))
            assert body is not None
            found = bodies[shard, piece] = peers.decode(zlib.decompress(body))
        return found

    def _forget(self, cohort: Cohort, window: Window, shard: int, piece: int) -> None:
        self._pieces.delete(_body(cohort, window.start, shard, piece))
        self._windows[cohort.key, window.start][1].pop((shard, piece), None)

    def _write(self, cohort: Cohort, window: Window) -> None:
        self._pieces.set(_window(cohort, window.start), msgspec.msgpack.encode(window))

    def _list(self, cohort: Cohort, start: int) -> None:
        """Note that there is a window, so that it is found when it is old."""
        span = start // (_SPAN * cohort.length_us)
        starts = self._starts(cohort, span)
        if span not in cohort.spans:
            cohort.spans = sorted([*cohort.spans, span])
        self._pieces.set(_span(cohort, span), msgspec.msgpack.encode(sorted({*starts, start})))
        self._changed.add(cohort.key)

    def _starts(self, cohort: Cohort, span: int) -> list[int]:
        body = self._pieces.get(_span(cohort, span))
        return msgspec.msgpack.decode(body, type=list[int]) if body else []

    def _delete_old(self, cohort: Cohort, most: int) -> int:
        """Delete windows that are no longer kept, up to so many; return how many."""
        length = cohort.length_us
        kept_from = self.clock_us - KEEP_US - length
        if not cohort.spans or (cohort.spans[0] + 1) * _SPAN * length > kept_from:
            return 0
        span = cohort.spans[0]
        starts = self._starts(cohort, span)
        for start in starts[:most]:
            window, _ = self._open(cohort, start)
            for shard, piece in window.records:
                self._pieces.delete(_body(cohort, start, shard, piece))
            self._pieces.delete(_window(cohort, start))
            del self._windows[cohort.key, start]
            cohort.waiting.pop(start, None)
        self._changed.add(cohort.key)
        if len(starts) > most:
            self._pieces.set(_span(cohort, span), msgspec.msgpack.encode(starts[most:]))
            return most
        self._pieces.delete(_span(cohort, span))
        cohort.spans = cohort.spans[1:]
        return len(starts)


_CLOCK = "clock"


def _window(cohort: Cohort, start: int) -> str:
    return f"window/{cohort.id}/{start}"


def _body(cohort: Cohort, start: int, shard: int, piece: int) -> str:
    return f"peers/{cohort.id}/{start}/{shard}/{piece}"


def _span(cohort: Cohort, span: int) -> str:
    return f"starts/{cohort.id}/{span}"
