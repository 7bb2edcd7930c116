"""One story, and the stores that it was written to, for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headwater_appliance.stack_servers import Influx
from tests.grafana.boards import read
from tests.grafana.looked import Looked
from tests.grafana.stores import Store
from tests.grafana.story import told
from tests.stack import make, running


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    """Run the story, and an InfluxDB with all of it."""
    folder = tmp_path_factory.mktemp("grafana")
    influx = make(Influx, folder / "influx")
    with running(influx), told(folder / "box", influx.url) as story:
        yield Looked(read(), story, Store(influx.port))
