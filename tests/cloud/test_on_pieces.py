"""An engine's shards, kept in pieces, come to what the local runner comes to, whatever is killed (R24, R27, R31)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.cloud.made import Agent, frame_record, row
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import Side, in_memory, windows_of
from tests.cloud.test_merge import SOME, chances, cut, identities, openers, revisions_of


@given(identities, openers, chances, st.sampled_from((1, 2, 7, 200)), st.lists(st.booleans(), max_size=12))
@SOME
def test_r24_shards_in_pieces_give_the_windows_of_the_local_runner_whatever_is_killed(
    readings: list[Any], opened: list[Any], chance: random.Random, batch: int, deaths: list[bool]
) -> None:
    """Any parts, in any order and cut, with kills between the sink and the commit and after it: the same windows to the last bit."""
    rows = revisions_of(readings, opened)
    frames = [*cut(rows, chance), *cut(chance.sample(rows, len(rows) // 2), chance)]
    with in_memory() as folder:
        local = Side(folder / "local")
        local.take(*map(frame_record, frames))
        wanted = windows_of(local)
        local.close()
        side = PieceSide(folder / "pieces", batch)
        side.put(*map(frame_record, frames))
        for dies in deaths:
            side.step(dies=dies)
            if not dies and chance.random() < 0.3:
                side.kill()
        side.run()
        found = windows_of(side)
        side.close()
    assert found == wanted


def test_r01_a_late_part_after_a_start_hides_no_newer_one() -> None:
    """The first that a new process sees of a series is late: windows that are newer, and in the state, keep their parts."""
    one, two = Agent(), Agent("a2", epoch=7)
    with in_memory() as folder:
        side = PieceSide(folder / "pieces")
        side.take(one.frame(row(0, 1.0), row(50, 1.0, 2.0)))
        side.kill()
        side.take(two.frame(row(10, 5.0, opened=("a2", 7, 1))))
        side.take(two.frame(row(50, 3.0, opened=("a2", 7, 2))))
        found = side.rows("SELECT parts, count FROM window ORDER BY start")
        side.close()
    assert found == [(1, 1), (1, 1), (2, 3)]
