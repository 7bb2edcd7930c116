"""What a running box looks like from outside: the agent's status, the cloud side's file; in numbers and in plain lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from headwater_appliance.box import Box
from headwater_appliance.look import agent_of
from headwater_cloud import alert_history
from headwater_cloud.history import History
from headwater_cloud.views import AlertView
from headwater_shared.errors import StateError

_NOT_BEFORE_US = (
    1_000_000_000_000_000  # 2001: what is complete only up to before it is held up by a wrong clock
)


class View:
    """Looks at a box again and again; whatever does not answer yet is left out."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._history: History | None = None
        self._alerts: dict[str, str] = {}
        """The state of each alert when last looked at."""
        self._before: tuple[float, int] = (0.0, 0)
        self.hours_since_us: int | None = None
        """Where time runs fast: times are told as hours after this."""

    def agent(self) -> dict[str, Any]:
        """Return the agent's status, of several together; empty while one does not answer."""
        return agent_of(self._box)[0]

    def when(self, time_us: int) -> str:
        """Write an event time: of the day, UTC, or in hours where time runs fast."""
        if self.hours_since_us is None:
            return clock_time(time_us)
        return f"{(time_us - self.hours_since_us) / 3.6e9:5.2f} h"

    def history(self) -> History | None:
        """Return the cloud side's history, once it is there."""
        if self._history is None:
            try:
                self._history = History(self._box.cloud_file)
            except StateError:
                return None
        return self._history

    @property
    def has_readings(self) -> bool:
        """Tell whether the last line had any."""
        return self._before[1] > 0

    def line(self, seconds: float, now_us: int) -> str:
        """Say in one line how the box is."""
        status = self.agent()
        if not status:
            return f"{seconds:4.0f} s  the agent is starting"
        before_s, before = self._before
        accepted = int(status["accepted"])
        rate = (accepted - before) / max(seconds - before_s, 1e-3) if before_s else 0.0
        self._before = (seconds, accepted)
        history = self.history()
        windows, lag = 0, "-"
        if history is not None:
            windows = history.count_windows()
            lag = behind(
                [progress.complete_us for progress in history.progress()],
                now_us,
                in_hours=self.hours_since_us is not None,
            )
        return (
            f"{seconds:4.0f} s  {status['devices']} devices  {accepted:,} readings ({rate:,.0f}/s)  "
            f"{windows:,} windows  complete up to {lag}  resent {status['by_transport'] + status['by_meaning']:,}  "
            f"late {status['late']:,}  dead {status['dead']:,}"
        )

    def news(self) -> list[tuple[AlertView, str]]:
        """Return a line for each alert that fired, was acknowledged or resolved since the last look, with the alert."""
        history = self.history()
        if history is None:
            return []
        lines = []
        for alert in reversed(history.alerts()):
            if self._alerts.get(alert.id) != alert.state:
                if alert.id not in self._alerts and alert.state != "firing":
                    lines.append((alert, self._line(history, alert, "firing")))
                self._alerts[alert.id] = alert.state
                lines.append((alert, self._line(history, alert, alert.state)))
        return lines

    def _line(self, history: History, alert: AlertView, state: str) -> str:
        what = f"{alert.severity}  {alert.subject}  {alert.rule}"
        text = alert.text or "limit broken"
        if state == "firing":
            at_us = fired_us(alert)
            since = (
                f" (it began at {self.when(alert.episode_us).strip()})" if at_us > alert.episode_us else ""
            )
            return f"        ALERT  {self.when(at_us)}  {what}: {text}{since}"
        if state == "acknowledged":
            acks = [one for one in alert_history.events(history.connection, alert.id) if one.what == "ack"]
            done_us = acks[-1].changed_us if acks else alert.episode_us
            why = f": {acks[-1].why}" if acks and acks[-1].why else ""
            return f"        ACK    {self.when(done_us)}  {what}: by {alert.acked}{why}"
        return f"        OVER   {self.when(alert.time_us)}  {what}: {text} (value {alert.value:g})"

    def close(self) -> None:
        if self._history is not None:
            self._history.close()


def fired_us(alert: AlertView) -> int:
    """Return when an alert was one: of a pattern later than it began."""
    return alert.episode_us if alert.fired_us is None else alert.fired_us


def clock_time(us: int) -> str:
    """Write an event time of the day, UTC."""
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%H:%M:%S.%f")[:-5]


def behind(complete: Sequence[int], now_us: int, *, in_hours: bool = False) -> str:
    """Say how far windows are complete, in all shards; of those that a clock of 1970 holds up only that there are some."""
    dated = [at_us for at_us in complete if at_us >= _NOT_BEFORE_US]
    if not dated:
        return "-"
    lag_s = (now_us - min(dated)) / 1e6
    said = f"{lag_s / 3600:.1f} h ago" if in_hours else f"{lag_s:.0f} s ago"
    return said if len(dated) == len(complete) else f"{said}, a clock of 1970 aside"
