"""The story of a stack: what of an alert is found in the store, and who is called by Alertmanager; and at the end what all of them say."""

from __future__ import annotations

from collections import Counter

from headwater_appliance.demo_stack import Stack
from headwater_appliance.demo_stack_query import influxql
from headwater_appliance.view import View
from headwater_shared.errors import TryAgain

_CAUGHT_UP_S = 30.0
_ALERTS = (
    """SELECT "state", "severity", "text", "value" FROM "headwater_found".."alerts" WHERE "id" = '{id}'"""
)
_WINDOW = """SELECT "count", "max" FROM "headwater_10s".."windows" WHERE "site" = '{site}' AND "device" = '{device}' AND "metric" = '{metric}' AND "count" > 0"""


class StackStory:
    """What appears behind Headwater, as lines; each once."""

    def __init__(self, stack: Stack, view: View) -> None:
        self._stack = stack
        self._view = view
        self._stored: set[str] = set()
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often Alertmanager told of a rule, by state."""

    def news(self, now_us: int) -> list[str]:
        """Return the lines since the last look; the time is not asked for."""
        return [*self._of_store(), *self._of_hook()]

    def _of_store(self) -> list[str]:
        history = self._view.history()
        if history is None:
            return []
        lines: list[str] = []
        for alert in history.alerts():
            if alert.id in self._stored:
                continue
            try:
                rows = influxql(self._stack.store.url, _ALERTS.format(id=alert.id))
            except TryAgain:  # there is no such database yet, or it is busy
                return lines
            if rows:
                self._stored.add(alert.id)
                row = rows[0]
                lines.append(f"        STORED {self._view.when(alert.episode_us)}  {alert.subject}  {alert.rule}: a point of InfluxDB's, state {row['state']}, value {row['value']:g}")  # fmt: skip
        return lines

    def _of_hook(self) -> list[str]:
        lines: list[str] = []
        for one in self._stack.hook.news():
            self.calls[one.name, one.status] += 1
            text = one.annotations.get("summary") or one.annotations.get("text", "")
            lines.append(f"        CALLED {one.status:8}  {one.subject}  {one.name}: {text}")
        return lines
