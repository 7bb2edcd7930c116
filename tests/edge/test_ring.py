"""The ring of panes against plain dictionaries: which windows have a pane, what leaves, what is revised (R1, R7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.ring import EMPTY, HELD, OPEN, Panes, Ring, group_starts, rounds
from headwater_shared.parts import Level

SERIES, SLOTS, LENGTH = 2, 3, 10


@dataclass
class Pane:
    """One slot of the account."""

    start: int
    tick: int
    status: int = OPEN
    revision: int = 0
    dirty: bool = False


Seen = tuple[int, int, int, int]
"""Series, start, opening tick, revision."""


@dataclass
class Plain:
    """What the ring's words say, one window after the other."""

    slots: dict[int, Pane] = field(default_factory=dict)

    def place(self, series: int, window: int, tick: int) -> tuple[bool, bool, list[Seen], list[Seen]]:
        """Return whether it has a slot, whether it is late, what is closed and what is revised."""
        at, start = series * SLOTS + window % SLOTS, window * LENGTH
        pane = self.slots.get(at)
        if pane is not None and pane.start == start:
            pane.dirty |= pane.status == HELD
            return True, pane.status == HELD, [], []
        if pane is not None and pane.start > start:
            return False, True, [], []
        closed = [self._seen(at)] if pane is not None and pane.status == OPEN else []
        revised = []
        if pane is not None and pane.dirty:
            pane.revision += 1
            revised = [self._seen(at)]
        self.slots[at] = Pane(start, tick)
        return True, False, closed, revised

    def close(self, watermark: list[int]) -> list[Seen]:
        due = [
            at
            for at, pane in sorted(self.slots.items())
            if pane.status == OPEN and pane.start + LENGTH <= watermark[at // SLOTS]
        ]
        for at in due:
            self.slots[at].status = HELD
        return [self._seen(at) for at in due]

    def revise(self) -> list[Seen]:
        dirty = [at for at, pane in sorted(self.slots.items()) if pane.dirty]
        for at in dirty:
            self.slots[at].dirty = False
            self.slots[at].revision += 1
        return [self._seen(at) for at in dirty]

    def _seen(self, at: int) -> Seen:
        pane = self.slots[at]
        return at // SLOTS, pane.start, pane.tick, pane.revision


def seen(panes: Panes) -> list[Seen]:
    columns = (panes.series, panes.start, panes.tick, panes.revision)
    return list(zip(*(column.tolist() for column in columns), strict=True))


windows = st.integers(-2, 6)
acts = st.one_of(
    st.lists(st.tuples(st.integers(0, SERIES - 1), windows), min_size=1, max_size=8, unique=True),
    st.lists(st.sampled_from((-20, 0, 9, 10, 40, 100)), min_size=SERIES, max_size=SERIES).map(
        lambda m: ("close", m)
    ),
    st.sampled_from(("revise", "clear")),
)


@given(st.lists(acts, max_size=25))
def test_r01_r07_the_ring_does_what_its_words_say(todo: list[object]) -> None:
    """Windows placed in any order, negative ones too; closing, revising and clearing between them."""
    ring, plain = Ring(Level("10us", LENGTH, LENGTH), SLOTS), Plain()
    ring.grow(SERIES)
    for tick, act in enumerate(todo):
        if isinstance(act, list):
            _place(ring, plain, sorted(act), tick)
        elif isinstance(act, tuple):
            due = ring.due(np.array(act[1], np.int64))
            assert seen(ring.close(due)) == plain.close(act[1])
        elif act == "revise":
            assert seen(ring.revise()) == plain.revise()
        else:
            ring.clear()
            plain.slots.clear()
        for at in range(len(ring)):
            pane = plain.slots.get(at)
            assert ring.status[at] == (EMPTY if pane is None else pane.status)
            assert ring.dirty[at] == (pane is not None and pane.dirty)


def _place(ring: Ring, plain: Plain, asked: list[tuple[int, int]], tick: int) -> None:
    """As the levels do: ordered by series and window, round by round where windows share a slot."""
    series, window = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    flat = ring.flat_of(series, window)
    for at in rounds(flat):
        placed = ring.place(flat[at], window[at] * LENGTH, tick)
        wanted = [plain.place(asked[n][0], asked[n][1], tick) for n in at.tolist()]
        assert (placed.flat >= 0).tolist() == [has for has, *_ in wanted]
        assert placed.late.tolist() == [late for _, late, *_ in wanted]
        assert seen(placed.closed) == [pane for _, _, closed, _ in wanted for pane in closed]
        assert seen(placed.revised) == [pane for *_, revised in wanted for pane in revised]
        kept = placed.flat >= 0
        assert placed.flat[kept].tolist() == flat[at][kept].tolist()


@given(st.lists(st.tuples(st.integers(0, 3), windows), max_size=20))
def test_a_round_holds_no_slot_twice(asked: list[tuple[int, int]]) -> None:
    """Each index comes in one round, and those of one slot come in their order."""
    ring = Ring(Level("10us", LENGTH, LENGTH), SLOTS)
    columns = np.array(sorted(asked), np.int64).reshape(-1, 2)
    flat = ring.flat_of(columns[:, 0], columns[:, 1])
    found = list(rounds(flat))
    for at in found:
        assert len(set(flat[at].tolist())) == len(at)
        assert at.tolist() == sorted(at.tolist())
    order = [n for at in found for n in at.tolist()]
    assert sorted(order) == list(range(len(flat)))
    for slot in set(flat.tolist()):
        of_slot = [n for n in order if flat[n] == slot]
        assert of_slot == sorted(of_slot)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), min_size=1, max_size=20))
def test_groups_begin_where_series_or_window_change(rows: list[tuple[int, int]]) -> None:
    """In ordered columns each pair's first row begins its group."""
    ordered = sorted(rows)
    columns = np.array(ordered, np.int64)
    starts = group_starts(columns[:, 0], columns[:, 1]).tolist()
    assert starts == [n for n, pair in enumerate(ordered) if n == 0 or ordered[n - 1] != pair]


def test_growing_keeps_what_is_there() -> None:
    """More series get slots behind those of the series before; fewer take none away."""
    ring = Ring(Level("10us", LENGTH, LENGTH), SLOTS)
    ring.grow(1)
    ring.place(np.array([2]), np.array([20]), 7)
    ring.grow(3)
    ring.grow(2)
    assert len(ring) == 3 * SLOTS
    assert seen(ring.panes(np.flatnonzero(ring.status == OPEN))) == [(0, 20, 7, 0)]
