"""How hard the disk presses: when the ballast is taken, and when the agent holds back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater_edge.ballast import Ballast
from headwater_edge.disk_settings import DiskLimits
from headwater_edge.space import Gauge, Space, lacking
from headwater_edge.store import WAL_BYTES, open_store

MB = 1_000_000


@pytest.fixture
def gauge(tmp_path: Path) -> Iterator[Gauge]:
    connection, lock = open_store(tmp_path / "edge.db")
    with closing(connection), closing(Gauge(tmp_path / "edge.db", Ballast(tmp_path / "edge.db"))) as one:
        yield one
    lock.release()


@pytest.mark.parametrize(
    ("log", "beside", "floor", "taken"),
    [
        (0, WAL_BYTES, 0, True),
        (0, WAL_BYTES - 1, 0, False),  # the write-ahead log has yet to grow
        (WAL_BYTES, MB, 0, True),  # it has grown: its room is not asked for twice
        (WAL_BYTES, MB - 1, 0, False),
        (WAL_BYTES, 2 * MB, 3 * MB, False),  # what is left to others
    ],
)
def test_r17_the_ballast_is_taken_as_soon_as_work_can_go_on_beside_it(
    gauge: Gauge, log: int, beside: int, floor: int, taken: bool
) -> None:
    """Room for what the write-ahead log has yet to grow and 1 MB, or for the floor, is all that is asked for besides."""
    space = Space(used=10 * MB, unused=0, log=log, snapshot=MB, ballast=0, free=0)
    space = space._replace(free=space.wanted_ballast + beside)
    limits = DiskLimits(quota=100 * MB, free=floor, high=80 * MB)
    more = lacking(space, limits)
    assert (more == 0) is taken
    assert not lacking(space._replace(free=space.free + more), limits)
    assert gauge.take_ballast(space, limits) is taken
