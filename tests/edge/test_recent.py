"""The raw columns against a plain list: what is kept, what is found, and that a snapshot changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.recent import _FIRST, NEVER, Recent

SERIES, SLOTS, LENGTH = 3, 6, 10


class Row(NamedTuple):
    """One reading."""

    series: int
    sent: int
    event: int
    value: float
    slot: int


EVENTS = [n * LENGTH + off for n in range(-2, 3) for off in (0, 5, LENGTH - 1)]

rows = st.lists(
    st.builds(
        Row,
        st.integers(0, SERIES - 1),
        st.integers(-50, 50),
        st.sampled_from(EVENTS),
        st.floats(-5, 5),
        st.integers(-1, SLOTS - 1),
    ),
    max_size=12,
)
starts = st.lists(
    st.one_of(st.just(NEVER), st.integers(-2, 2).map(lambda n: n * LENGTH)), min_size=SLOTS, max_size=SLOTS
)
acts = st.one_of(
    rows.map(lambda what: ("append", what)),
    st.tuples(st.lists(st.integers(-60, 60), min_size=SERIES, max_size=SERIES), starts).map(
        lambda what: ("prune", what)
    ),
    st.sampled_from((("forget", None), ("dump", None))),
)


def _append(recent: Recent, more: list[Row]) -> None:
    series, sent, event, value, slot = (
        (list(column) for column in zip(*more, strict=True)) if more else ([],) * 5
    )
    recent.append(
        np.array(series, np.int32), np.array(sent, np.int64), np.array(event, np.int64), np.array(value, np.float64),
        np.array(slot, np.int32),
    )  # fmt: skip


def _all(recent: Recent) -> list[Row]:
    columns = [getattr(recent, name)[: recent.size].tolist() for name in Recent.COLUMNS]
    return [Row(*row) for row in zip(*columns, strict=True)]


@given(st.lists(acts, max_size=15), starts, st.lists(st.integers(0, SLOTS - 1), unique=True))
def test_what_is_kept_is_what_a_pane_counts_or_is_young(
    todo: list[tuple[str, Any]], panes: list[int], asked: list[int]
) -> None:
    """Appended, pruned, sealed and dumped in any order; then the readings of panes and of series are found."""
    recent, plain = Recent(), list[Row]()
    for name, what in todo:
        if name == "append":
            _append(recent, what)
            plain += what
        elif name == "prune":
            keep_from, of_slot = what
            recent.prune(np.array(keep_from, np.int64), np.array(of_slot, np.int64), LENGTH)
            plain = [row if _counted(row, of_slot) else row._replace(slot=-1) for row in plain]
            plain = [row for row in plain if row.event >= keep_from[row.series] or row.slot >= 0]
        elif name == "forget":
            recent.forget_slots()
            plain = [row._replace(slot=-1) for row in plain]
        else:
            dumped, prune_at = dict(recent.dump()), recent.prune_at
            recent = Recent()
            recent.load(dumped, prune_at)
        assert _all(recent) == plain
    found = recent.rows_of(
        np.array(asked, np.int64), np.array([panes[slot] for slot in asked], np.int64), LENGTH, SLOTS
    )
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [
        (asked.index(row.slot), number)
        for number, row in enumerate(plain)
        if row.slot in asked and _counted(row, panes)
    ]
    last = recent.last_of(range(SERIES), 3)
    for series in range(SERIES):
        of_series = [number for number, row in enumerate(plain) if row.series == series]
        assert last[series].tolist() == recent.last_of([series], 3)[series].tolist() == of_series[-3:]


def _counted(row: Row, of_slot: list[int]) -> bool:
    return row.slot >= 0 and of_slot[row.slot] <= row.event < of_slot[row.slot] + LENGTH


def test_a_pane_counts_from_its_start_to_its_end() -> None:
    """The end is the next pane's: of four readings about a window of a slot two are kept, and two are found."""
    recent, starts, only = Recent(), np.full(SLOTS, NEVER), np.array([2])
    starts[2] = 20
    _append(recent, [Row(0, 0, event, 0.0, 2) for event in (19, 20, 29, 30)])
    assert [rows.tolist() for rows in recent.rows_of(only, starts[only], LENGTH, SLOTS)] == [[0, 0], [1, 2]]
    recent.prune(np.array([100]), starts, LENGTH)
    assert [row.event for row in _all(recent)] == [20, 29]


def test_it_is_full_at_the_same_row_after_a_restart() -> None:
    """When a prune runs depends on the rows alone, so a replay prunes at the same ticks."""
    recent = Recent()
    _append(recent, [Row(0, 0, n, 0.0, -1) for n in range(2 * _FIRST)])
    assert recent.is_full()
    recent.prune(np.array([0]), np.full(SLOTS, NEVER), LENGTH)
    assert recent.size == 2 * _FIRST
    assert not recent.is_full()
    again = Recent()
    again.load(dict(recent.dump()), recent.prune_at)
    left = recent.prune_at - recent.size
    for one in (recent, again):
        _append(one, [Row(0, 0, 7, 0.0, -1)] * (left - 1))
        assert not one.is_full()
        _append(one, [Row(0, 0, 8, 0.0, -1)])
        assert one.is_full()
        one.prune(np.array([10]), np.full(SLOTS, NEVER), LENGTH)
        assert one.size == 2 * _FIRST - 10
    assert recent.prune_at == again.prune_at
    assert _all(recent) == _all(again)


def test_room_follows_what_is_kept() -> None:
    """It grows with a burst, and is given back by the prune after it."""
    recent = Recent()
    for _ in range(10):
        _append(recent, [Row(0, 0, 5, 0.0, -1)] * _FIRST)
    assert recent.size == 10 * _FIRST
    recent.prune(np.array([6]), np.full(SLOTS, NEVER), LENGTH)
    assert (recent.size, len(recent.event)) == (0, _FIRST)
