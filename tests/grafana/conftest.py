"""One story, and the stores that it was written to, for all tests that look at them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grafana.looked import Looked
from tests.grafana.looked import looked as look


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    """Run the story, its stores and what scrapes it."""
    with look(tmp_path_factory.mktemp("grafana")) as found:
        yield found
