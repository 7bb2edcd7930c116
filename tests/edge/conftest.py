"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.forwarding import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An outbox that a test fills by hand, its forwarder, and a real bus."""
    made = Desk(tmp_path)
    yield made
    made.close()
