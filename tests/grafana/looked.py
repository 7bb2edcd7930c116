"""The dashboards, as someone looks at them when the story is over."""

from __future__ import annotations

from typing import NamedTuple

from tests.grafana.asked import Chosen, Shown, opened
from tests.grafana.boards import Json
from tests.grafana.stores import Store
from tests.grafana.story import Story


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
