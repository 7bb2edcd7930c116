"""One story, and the stores that it was written to, for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grafana.boards import read
from tests.grafana.looked import Looked
from tests.grafana.stores import filled
from tests.grafana.story import told


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    """Run the story, and an InfluxDB with all of it."""
    folder = tmp_path_factory.mktemp("grafana")
    with told(folder / "box") as story, filled(folder / "influx", story.file) as store:
        yield Looked(read(), story, store)
