"""One story, and the stores that it was written to, for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.grafana.asked import Chosen, Shown, opened
from tests.grafana.boards import Json, read
from tests.grafana.stores import Store, filled
from tests.grafana.story import Story, told


class Looked(NamedTuple):
    """The dashboards, as someone looks at them when the story is over."""

    boards: dict[str, Json]
    story: Story
    store: Store

    def opened(self, uid: str, **chosen: Chosen) -> Shown:
        """Open a dashboard on all of the story, and what a pump that was away had measured before."""
        from_ms = self.story.began_us // 1000 - 9_000_000
        return opened(
            self.boards[uid],
            from_ms,
            self.story.end_us // 1000,
            lambda query, _: self.store.values(query),
            **chosen,
        )


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    """Run the story, and an InfluxDB with all of it."""
    folder = tmp_path_factory.mktemp("grafana")
    with told(folder / "box") as story, filled(folder / "influx", story.file) as store:
        yield Looked(read(), story, store)
