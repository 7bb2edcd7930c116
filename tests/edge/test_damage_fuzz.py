"""Whatever happens to the bytes of an agent's file: it starts or says one clear line, and nothing readable is lost, nothing counts twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edge import damaged
from tests.edge.damage_fuzz import case
from tests.edge.damaged import Victim


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> list[Victim]:
    return [
        damaged.victim(tmp_path_factory.mktemp("victim"), pictures=pictures, away=away)
        for pictures, away in ((True, True), (False, True), (True, False))
    ]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """The file of another agent."""
    settings = damaged.settings_with(name="a2")
    return damaged.victim(tmp_path_factory.mktemp("other"), pictures=True, settings=settings)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_r15_random_damage(victims: list[Victim], other: Victim, tmp_path: Path, first: int) -> None:
    """Forty cases: bytes flipped, pages zeroed, swapped and torn, files cut, gone, or those of another agent's."""
    outcomes = [case(seed, victims, other, tmp_path) for seed in range(first, first + 10)]
    assert sum(not outcome.refused for outcome in outcomes) >= 8
    assert sum(outcome.waiting for outcome in outcomes) > 0


@pytest.mark.fault
@pytest.mark.parametrize("first", range(1_000, 4_000, 250))
def test_r15_random_damage_at_length(
    victims: list[Victim], other: Victim, tmp_path: Path, first: int
) -> None:
    """Three thousand cases."""
    outcomes = [case(seed, victims, other, tmp_path) for seed in range(first, first + 250)]
    assert sum(not outcome.refused for outcome in outcomes) >= 200
