"""The story of a stack: what of an alert is found in the store, and who is called by Alertmanager."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from headwater_appliance.demo_stack import Stack
from headwater_appliance.demo_stack_panels import Panels, Shown
from headwater_appliance.demo_stack_query import influxql
from headwater_appliance.view import View
from headwater_cloud.views import AlertView
from headwater_shared.errors import TryAgain

_ALERTS = 'SELECT "id", "state", "value" FROM "headwater_found".."alerts"'
_CALLS = ("firing", "resolved")


class StackStory:
    """What appears behind Headwater, as lines; each once."""

    def __init__(self, stack: Stack, view: View) -> None:
        self._stack = stack
        self._view = view
        self._stored: dict[str, str] = {}
        """The state in which the store has each alert."""
        self._calls: Counter[tuple[str, str, str]] = Counter()
        """How often Alertmanager told of a rule and subject, by state, whichever the receiver."""
        self._receivers: Counter[str] = Counter()
        self.panels = Panels(stack.store.url, stack.prometheus.url)
        self._looked: set[str] = set()
        """Alerts for which the panels were looked at."""
        self._began_us = 0

    @property
    def calls(self) -> Mapping[str, int]:
        """How many alerts each receiver was told of, firing and resolved."""
        return self._receivers

    @property
    def chosen(self) -> dict[str, str]:
        """What somebody who looks at the first alert chooses at the top of a dashboard."""
        subjects = [alert.subject for alert in self._alerts() if alert.severity == "critical"]
        site, device, metric = (*subjects[0].split("/", 2), "", "")[:3] if subjects else ("", "", "")
        return {"level": "10s", "site": site, "device": device, "metric": metric}

    def news(self, now_us: int) -> list[str]:
        """Return the lines since the last look."""
        self._began_us = self._began_us or now_us
        lines = [*self._of_store(), *self._of_hook()]
        firing = {id_ for id_, state in self._stored.items() if state == "firing"}
        if not firing <= self._looked and self.chosen["device"]:
            self._looked |= firing
            self.look(now_us)  # while it fires: at the end these panels are empty
        return lines

    def look(self, now_us: int) -> None:
        """Ask what all panels show, from the beginning up to now, of what somebody who was called looks at."""
        self.panels.look(self.chosen, Shown(self._began_us, now_us))

    def missing(self, until_us: int) -> list[str]:
        """Name what should have come of alerts that began before a time, and has not: a state in the store, a call, its end.

        What was over before it was found is nobody's call; what is critical was not.
        """
        missing: list[str] = []
        for alert in self._alerts():
            if alert.episode_us > until_us:
                continue
            if self._stored.get(alert.id) != alert.state:
                missing.append(f"{alert.rule} of {alert.subject} as {alert.state} in InfluxDB")
            if alert.muted or alert.state == "pending":
                continue
            called = {state for state in _CALLS if self._calls[alert.rule, alert.subject, state]}
            wanted = (
                {"firing"} if called or alert.severity == "critical" or alert.state != "resolved" else set()
            )
            wanted |= {"resolved"} if wanted and alert.state == "resolved" else set()
            missing += [f"{alert.rule} of {alert.subject} as {state} at the webhook" for state in _CALLS if state in wanted - called]  # fmt: skip
        return missing

    def _alerts(self) -> list[AlertView]:
        history = self._view.history()
        return list(reversed(history.alerts())) if history is not None else []

    def _of_store(self) -> list[str]:
        alerts = {alert.id: alert for alert in self._alerts()}
        if all(self._stored.get(one.id) == one.state for one in alerts.values()):
            return []
        try:
            rows = influxql(self._stack.store.url, _ALERTS)
        except TryAgain:  # there is no such database yet, or it is busy
            return []
        lines: list[str] = []
        for row in rows:
            alert, state = alerts.get(str(row["id"])), str(row["state"])
            if alert is None or self._stored.get(alert.id) == state:
                continue
            self._stored[alert.id] = state
            lines.append(f"        STORED {self._view.when(alert.episode_us)}  {alert.subject}  {alert.rule}: a point in InfluxDB, state {state}")  # fmt: skip
        return lines

    def _of_hook(self) -> list[str]:
        lines: list[str] = []
        for one in self._stack.hook.news():
            self._receivers[one.receiver] += 1
            heard = self._calls[one.name, one.subject, one.status]
            self._calls[one.name, one.subject, one.status] += 1
            if heard:
                continue  # by another receiver, or again
            what = f"{one.subject}  {one.name}" if one.is_ours else f"{one.name}, of Prometheus"
            text = one.annotations.get("text") or one.annotations.get("summary", "")
            lines.append(f"        CALLED {one.status}  {what}: {text}")
        return lines
