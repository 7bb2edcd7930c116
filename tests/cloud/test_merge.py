"""Parts become windows: whatever the order, the repetition and the cut, the windows are those of the parts (R1, R7)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud.columns import unpack_sketches
from headwater_shared.aggregates import COLUMNS, merged_groups
from headwater_shared.frame import Frame
from headwater_shared.parts import COARSENED
from tests.cloud.made import SHARD, T0, TEMP, Agent, Row, S, frame_record, parts_of, row, without
from tests.cloud.side import Side, in_memory, windows_of
from tests.cloud.side import parts_of as stored_parts_of
from tests.edge.merged import Place, assert_equal_windows, merged
from tests.reference import LEVELS, Window, all_windows

KEPT = {level: LEVELS[level] for level in ("10s", "1m")}

OPENERS = (("a1", 1, 3), ("a1", 1, 12), ("a1", 2, 12), ("a2", 3, 1), ("a2", 4, 2**41))
"""Agent, epoch, tick; in their order the epochs rise, as `tests.edge.merged` knows of one agent only."""

Reading = tuple[str, int, float]

identities = st.lists(
    st.tuples(
        st.sampled_from((TEMP, "s1/d1/flow", "s2/d9/temp")),
        st.sampled_from((0, 1, S, 9 * S, 10 * S, 59 * S, 60 * S)).map(lambda at: T0 + at),
        st.sampled_from((0.0, -0.0, 1.5, -2.25, 20.1, 20.2, 1e-300, -1e12, 1e6, 0.1)),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda reading: (reading[0], reading[1], reading[2] or 0.0),
)
openers = st.lists(st.sampled_from(OPENERS), min_size=14, max_size=14)
chances = st.randoms(use_true_random=False)

SOME = settings(max_examples=max(30, settings().max_examples - 70))
"""Each example opens four files or more."""


def revisions_of(readings: Sequence[Reading], opened: Sequence[tuple[str, int, int]]) -> list[Row]:
    """Every revision of every part: each reading is of the part that its opener has in its window, one revision more."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for level, length in KEPT.items():
        for (series, time_us, value), opener in zip(readings, opened, strict=False):
            start = time_us // length * length
            before = found.setdefault((series, level, start, opener), [])
            held = before[-1].readings if before else ()
            before.append(Row(series, level, start, *opener, len(before), (*held, (time_us, value))))
    return [one for several in found.values() for one in several]


@contextmanager
def side(batch: int = 200) -> Iterator[Side]:
    """A cloud side in a folder of this example's own."""
    with in_memory() as folder:
        made = Side(folder, batch=batch)
        yield made
        made.close()


def cut(rows: Sequence[Row], chance: random.Random) -> list[Frame]:
    """Put rows into frames in their order, each frame of one agent and one shard, as long as chance will have it."""
    senders: dict[str, Agent] = {}
    frames: list[Frame] = []
    run: list[Row] = []
    for one in rows:
        if run and (
            (one.agent, one.series[:2]) != (run[0].agent, run[0].series[:2]) or chance.random() < 0.4
        ):
            frames.append(senders.setdefault(run[0].agent, Agent(run[0].agent, epoch=99)).made(*run))
            run = []
        run.append(one)
    frames.append(senders.setdefault(run[0].agent, Agent(run[0].agent, epoch=99)).made(*run))
    return frames


def taken(frames: Sequence[Frame], *, batch: int = 200, cut_at: int = 0) -> list[list[Any]]:
    """Feed frames to a cloud side, which is closed and opened again after some; return windows and parts."""
    with side(batch) as here:
        here.take(*(frame_record(frame) for frame in frames[:cut_at]))
        if cut_at:
            here.reopen()
        here.take(*(frame_record(frame) for frame in frames[cut_at:]))
        return [windows_of(here), stored_parts_of(here)]


def whole(rows: Sequence[Row]) -> list[list[Any]]:
    """Feed only the last revision of each part, in the order of their identities, all in one batch."""
    last = {one[:6]: one for one in rows}
    return taken(cut([last[at] for at in sorted(last)], random.Random(0)))


def as_windows(rows: list[Any]) -> dict[Place, Window]:
    """The rows of the file as the reference has them."""
    found = {}
    for one in rows:
        fields = dict(zip(COLUMNS, one[8:18], strict=True))
        fields["digest"] %= 2**64
        sketches = unpack_sketches([one[18]])
        fields["sketch"] = dict(zip(sketches.bucket.tolist(), sketches.count.tolist(), strict=True))
        found[one[:3]] = Window(**fields)
    return found


@SOME
@given(identities, openers, chances, st.integers(1, 9))
def test_r01_any_order_repetition_and_cut_of_the_same_parts_gives_the_same_windows(
    readings: list[Reading], opened: list[tuple[str, int, int]], chance: random.Random, batch: int
) -> None:
    """Bit for bit those of the last revisions in one batch, which are the merge of the parts, and the reference's."""
    rows = revisions_of(readings, opened)
    wanted = whole(rows)
    again = [*rows, *chance.choices(rows, k=chance.randint(0, len(rows)))]
    chance.shuffle(again)
    frames = cut(again, chance)
    assert taken(frames, batch=batch, cut_at=chance.randint(0, len(frames))) == wanted
    found = as_windows(wanted[0])
    assert_equal_windows(found, all_windows(readings, KEPT))
    assert _bits(found) == _bits(merged(_in_order(rows)).windows())


def _in_order(rows: Sequence[Row]) -> Iterator[Frame]:
    """Every revision in its order, as frames of one stream: what `tests.edge.merged` checks and merges."""
    seqs: dict[int, int] = {}
    for tick, one in enumerate(rows, 1):
        shard = Agent().made(one).shard
        seqs[shard] = seqs.get(shard, 0) + 1
        yield Frame("a1", 99, shard, seqs[shard], tick, None, parts_of([one]))


def _bits(found: dict[Place, Window]) -> dict[Place, Any]:
    """What can be compared to the last bit, -0 as 0: SQLite does not tell them apart."""
    return {
        place: (w.count, w.digest, *((x or 0.0).hex() for x in (w.mean, w.m2, w.min, w.max, w.first, w.last)), w.first_time, w.last_time, w.sketch)
        for place, w in found.items()
    }  # fmt: skip


versions = st.lists(
    st.tuples(
        st.sampled_from(OPENERS[:3]),
        st.integers(0, 3),
        st.lists(st.integers(0, 5), max_size=4, unique=True).map(lambda at: tuple(sorted(at))),
    ),
    min_size=1,
    max_size=8,
)
"""Opener, revision, and which of six readings the part held at that revision; of one window."""


def version(opener: tuple[str, int, int], revision: int, held: tuple[int, ...]) -> Row:
    readings = tuple((T0 + at * S, 0.1 + at * at) for at in held)
    return Row(TEMP, "10s", T0, *opener, revision, readings)


@SOME
@given(versions, chances, st.integers(1, 4))
def test_r01_and_r07_of_each_part_one_row_wins_whatever_else_was_said_of_it(
    said: list[tuple[tuple[str, int, int], int, tuple[int, ...]]], chance: random.Random, batch: int
) -> None:
    """The highest revision, of equal ones the larger count; one without readings takes the part away. Of rows that
    differ in nothing but the readings either may win, but the same one in any order.
    """
    rows = [version(*one) for one in said]
    other = chance.sample(rows, len(rows))
    found = taken(cut(rows, chance))
    assert taken(cut(other, chance), batch=batch, cut_at=chance.randint(0, 2)) == found
    ranks = {(one.epoch, one.tick): max((r.revision, len(r.readings)) for r in rows if r[3:6] == one[3:6]) for one in rows}  # fmt: skip
    counted = sum(count for _, count in ranks.values())
    assert sum(window.count for window in as_windows(found[0]).values()) == counted
    best = {(r.epoch, r.tick): r for r in rows if (r.revision, len(r.readings)) == ranks[r.epoch, r.tick]}
    if len({r for r in rows if (r.revision, len(r.readings)) == ranks[r.epoch, r.tick]}) == len(best):
        readings = [(TEMP, time_us, value) for r in best.values() for time_us, value in r.readings]
        wanted = all_windows([], KEPT) if not readings else _counted(readings)
        assert_equal_windows(as_windows(found[0]), wanted)


def _counted(readings: list[Reading]) -> dict[Place, Window]:
    """The window of readings that several parts may hold: each counts as often as it is held."""
    window = Window()
    for _, time_us, value in sorted(readings):
        window.add(time_us, value)
    return {(TEMP, "10s", T0): window}


def counts(here: Side) -> list[tuple[int, int, int]]:
    """Revision, number of parts and count of each window, oldest first."""
    return here.rows("SELECT revision, parts, count FROM window ORDER BY start")


@contextmanager
def fed(*batches: Sequence[Row]) -> Iterator[Side]:
    """A cloud side that took batches of rows, each row in a frame of its own."""
    with side() as here:
        senders = {name: Agent(name, epoch=99) for name in ("a1", "a2")}
        for rows in batches:
            here.take(*(senders[one.agent].frame(one) for one in rows))
        yield here


def test_r01_a_revision_replaces_the_part_and_an_older_one_that_comes_later_does_not() -> None:
    """Revision 1 wins over 0 and 2 over 1, in one batch or in several, in any order."""
    first, second, third = (row(0, *[1.0] * n, revision=n - 1) for n in (1, 2, 3))
    for batches in ([[first, second]], [[second], [first]], [[first], [second]], [[first, second, first]]):
        with fed(*batches) as here:
            assert counts(here) == [(1, 1, 2)]
            here.take(Agent("a1", epoch=98).frame(third))
            assert counts(here) == [(2, 1, 3)]


def test_r01_of_equal_revisions_the_larger_count_wins() -> None:
    """A part that was cut short (its file went back) loses to the same revision with more readings, stored or not."""
    for value in (1.0, 2.0, -3.0):  # whatever the digests are
        short, long = row(0, value, revision=4), row(0, value, 2 * value, revision=4)
        for batches in ([[short, long]], [[long, short]], [[long], [short]], [[short], [long]]):
            with fed(*batches) as here:
                assert counts(here) == [(4, 1, 2)]


def test_r01_of_rows_that_differ_in_their_readings_alone_the_same_one_wins_in_any_order() -> None:
    """Two copies of one state file go on under one epoch: which of two bodies counts depends on nothing but the two."""
    for one, other in ((1.0, 2.0), (-1.0, 3.0), (5.0, 4.0)):
        rows = [row(0, one, revision=1), row(0, other, revision=1), row(0, 9.0)]
        found = []
        for batches in (
            [rows],
            [rows[::-1]],
            [rows[:1], rows[1:]],
            [rows[1:], rows[:1]],
            [rows[2:], rows[:2]],
        ):
            with fed(*batches) as here:
                found.append(windows_of(here))
        assert found == [found[0]] * len(found)


def test_r01_parts_of_several_openers_add_up_to_the_same_bits_in_any_order() -> None:
    """Another agent, epoch or tick is another part; they are merged by agent, epoch and tick, not as they came."""
    rows = [row(n, 0.1 * 3**n, 0.7, opened=opener) for n, opener in enumerate(OPENERS)]
    with fed(rows) as here:
        wanted = windows_of(here)
        assert here.rows("SELECT parts, count FROM window") == [(5, 10)]
    means = set()
    for turn in range(5):
        with fed(*([one] for one in rows[turn:] + rows[:turn])) as here:
            assert windows_of(here) == wanted
        means.add(_merged_as_they_came(rows[turn:] + rows[:turn]))
    assert len(means) > 1, "the order of merging must matter for this test to say something"


def _merged_as_they_came(rows: Sequence[Row]) -> float:
    first = np.zeros(1, np.int64)
    return float(merged_groups(parts_of(rows).aggregates, first).mean[0])


def test_r07_a_revision_of_count_0_deletes_the_window() -> None:
    """Alone in its window the part takes the window along; of several parts the others stay."""
    one, other = row(0, 1.0), row(1, 2.0, 3.0, opened=("a2", 7, 7))
    with fed([one], [without(one, 1)]) as here:
        assert windows_of(here) == []
        here.take(Agent("a2").frame(other))
        assert here.rows("SELECT count, min FROM window") == [(2, 2.0)]
    with fed([one, other], [without(one, 1)]) as here:
        assert here.rows("SELECT count, min FROM window") == [(2, 2.0)]
        here.take(Agent("a2").frame(without(other, 1)))
        assert windows_of(here) == []


def test_r07_what_was_deleted_stays_so_when_an_older_revision_comes_again() -> None:
    """The stores delete the window, and what was said of its part is remembered: in the same batch, later, after a start."""
    one = row(0, 1.0)
    with fed([without(one, 1), one]) as here:
        assert windows_of(here) == []
    with fed([one], [without(one, 1)]) as here:
        here.reopen()
        here.take(Agent("a1", epoch=98).frame(one))
        assert windows_of(here) == []
        here.take(Agent("a1", epoch=97).frame(one._replace(revision=2)))
        assert counts(here) == [(2, 1, 1)]
        here.take(Agent("a1", epoch=96).frame(one), Agent("a2").frame(row(3, 2.0, opened=("a2", 7, 7))))
        assert here.rows("SELECT parts, count FROM window") == [(2, 2)]


def test_a_level_is_a_window_definition_and_not_a_length() -> None:
    """Windows of the same series and start at two levels, or of a level that nobody here knows, never meet (R1)."""
    rows = [row(0, 1.0), row(0, 1.0, level="1m"), row(0, 1.0)._replace(level="hop-10s-5s")]
    with fed(rows) as here:
        assert dict(here.rows("SELECT l.name, count FROM window w JOIN level l ON l.id = w.level")) == {
            "10s": 1, "1m": 1, "hop-10s-5s": 1,
        }  # fmt: skip


def test_an_emptied_frame_takes_its_seq_and_changes_no_window() -> None:
    """Coalescing sends a frame without parts (R22): it is had, and nothing is written."""
    agent = Agent()
    with side() as here:
        here.take(agent.frame(row(0, 1.0)), agent.frame(), agent.frame(row(20, 1.0)))
        assert here.haves() == {("a1", 1, SHARD): [1, 3]}
        assert len(windows_of(here)) == 2


def test_values_at_the_ends_of_the_floats_are_merged_and_shown() -> None:
    """The mean and M2 of such windows may be no numbers; counts, digests and extremes are right and nothing stops."""
    big = 1.7e308
    with fed([row(0, big, -big, big)], [row(1, -big, opened=("a2", 7, 7))], [row(2, big, opened=("a1", 2, 2))]) as here:  # fmt: skip
        (window,) = as_windows(windows_of(here)).values()
        assert (window.count, window.min, window.max) == (5, -big, big)
        with here.history() as history:
            found = history.windows(TEMP, "10s")
            assert found.aggregates.count.tolist() == history.level("10s").aggregates.count.tolist() == [5]


@given(st.permutations(range(4)), st.integers(0, 3), st.booleans())
def test_r22_a_mark_stays_whatever_comes_after_it(order: list[int], marked: int, other: bool) -> None:
    """A part that was ever put out as coarsened is so for good: in any order of its revisions, and repeated; finer windows
    within it are shown no more, all others are.
    """
    revisions = [row(0, *range(n + 1), level="1m", revision=n) for n in range(4)]
    agent = Agent("a1")
    frames = []
    for n, one in enumerate(revisions):
        made = agent.made(one)
        made.parts.flags[:] = COARSENED if n == marked else 0
        frames.append(frame_record(made))
    fine = [agent.frame(row(at, 1.0)) for at in (0, 50, 60)]
    with side() as cloud:
        cloud.take(fine[0])
        if other:  # the window has a part of another agent, too
            cloud.take(Agent("a2").frame(row(30, 7.0, level="1m", opened=("a2", 3, 1))))
        for n in order:
            cloud.take(frames[n])
        cloud.take(*fine[1:])
        cloud.take(frames[marked])
        ((count, flags),) = cloud.rows(
            "SELECT count, flags FROM window WHERE level = (SELECT id FROM level WHERE name = '1m')"
        )
        assert (count, flags) == (4 + other, COARSENED)
        with cloud.history() as history:
            assert history.windows(TEMP, "1m").start.tolist() == [T0]
            assert history.windows(TEMP, "10s").start.tolist() == [T0 + 60 * S]
