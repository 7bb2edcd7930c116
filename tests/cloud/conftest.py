"""A cloud side for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.kills import Steps
from tests.cloud.side import Side


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    """The cloud side in this test's folder, closed at the end."""
    made = Side(tmp_path / "cloud")
    yield made
    made.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The steps of every cloud side of this test, to be killed at."""
    return Steps(monkeypatch)
