"""The lines that a demo shows of a box: how far it is complete."""

from __future__ import annotations

import pytest

from headwater_appliance.view import behind

NOW = 1_800_000_000_000_000


@pytest.mark.parametrize(
    ("complete", "in_hours", "said"),
    [
        ([], False, "-"),
        ([NOW - 12_000_000, NOW - 3_000_000], False, "12 s ago"),
        ([NOW - 5_400_000_000], True, "1.5 h ago"),
        ([5_000_000, NOW - 3_000_000], False, "3 s ago, a clock of 1970 aside"),
        ([5_000_000], False, "-"),
    ],
)
def test_what_is_complete_is_told_in_times_that_mean_something(
    complete: list[int], in_hours: bool, said: str
) -> None:
    """The shard that is farthest behind counts; one that a clock of 1970 holds up is said to be aside."""
    assert behind(complete, NOW, in_hours=in_hours) == said
