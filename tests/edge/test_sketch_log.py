"""The log of sketches against plain counters: whatever is added, forgotten and summed, a slot's sketch is its sum."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.sketch_log import SketchLog
from headwater_shared.parts import grouped_sketches
from headwater_shared.sketch import BUCKETS

SLOTS = 5

buckets = st.one_of(st.integers(0, 3), st.just(BUCKETS - 1))
rows = st.lists(
    st.tuples(st.integers(-1, SLOTS - 1), st.dictionaries(buckets, st.integers(1, 2**40), max_size=4)),
    max_size=6,
)
slots = st.lists(st.integers(0, SLOTS - 1), max_size=SLOTS, unique=True)
acts = st.one_of(
    rows.map(lambda what: ("add", what)),
    slots.map(lambda what: ("of", what)),
    slots.map(lambda what: ("forget", what)),
    st.sampled_from((("dump", None), ("clear", None))),
)


def _added(log: SketchLog, what: list[tuple[int, dict[int, int]]]) -> None:
    triples = [
        (row, bucket, count) for row, (_, sketch) in enumerate(what) for bucket, count in sketch.items()
    ]
    columns = np.array(triples, np.int64).reshape(-1, 3)
    sketches = grouped_sketches(columns[:, 0], columns[:, 1], columns[:, 2], len(what))
    log.add(np.array([slot for slot, _ in what], np.int64), sketches)


def _of(log: SketchLog, asked: list[int]) -> list[dict[int, int]]:
    found = log.of(np.array(asked, np.int64), SLOTS)
    begins = [0, *found.end.tolist()]
    return [
        dict(zip(found.bucket[begin:end].tolist(), found.count[begin:end].tolist(), strict=True))
        for begin, end in zip(begins, found.end.tolist(), strict=False)
    ]


@given(st.integers(0, 20), st.lists(acts, max_size=15))
def test_a_slots_sketch_is_the_sum_of_its_rows(sum_at: int, todo: list[tuple[str, Any]]) -> None:
    """Whenever the log sums itself up, in any order of asked slots; slot -1 takes nothing; a snapshot changes nothing."""
    log, plain = SketchLog(), defaultdict[int, Counter[int]](Counter)
    log._sum_at = sum_at
    for name, what in todo:
        if name == "add":
            _added(log, what)
            if log.is_full:
                log.sum_up()
            for slot, sketch in what:
                if slot >= 0:
                    plain[slot].update(sketch)
        elif name == "of":
            assert _of(log, what) == [plain[slot] for slot in what]
        elif name == "forget":
            log.forget(np.array(what, np.int64), SLOTS)
            for slot in what:
                plain.pop(slot, None)
        elif name == "dump":
            dumped = log.dump()
            log = SketchLog()
            log.load(dumped)
        else:
            log.clear()
            plain.clear()
        log._sum_at = min(log._sum_at, sum_at + 2 * log._size)
    assert _of(log, list(range(SLOTS))) == [plain[slot] for slot in range(SLOTS)]


def test_the_log_does_not_grow_with_what_is_added() -> None:
    """The same buckets again and again are summed: rows stay within twice what is different, and the first 16,384."""
    log = SketchLog()
    for _ in range(200):
        _added(log, [(slot, dict.fromkeys(range(100), 1)) for slot in range(SLOTS)])
        if log.is_full:
            log.sum_up()
    assert log._size <= 16_384 + 500
    assert len(log.dump()["key"]) == log._size
    assert _of(log, [3]) == [dict.fromkeys(range(100), 200)]
