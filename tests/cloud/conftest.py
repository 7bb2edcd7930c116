"""A cloud side for each test that asks for one, in a folder that costs no wait for a disk: no power is cut here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.kills import Steps
from tests.cloud.side import Side, in_memory


@pytest.fixture
def folder() -> Iterator[Path]:
    """This test's folder."""
    with in_memory() as made:
        yield made


@pytest.fixture
def side(folder: Path) -> Iterator[Side]:
    """The cloud side of this test, closed at the end."""
    made = Side(folder / "cloud")
    yield made
    made.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The steps of every cloud side of this test, to be killed at."""
    return Steps(monkeypatch)
