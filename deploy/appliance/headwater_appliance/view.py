"""What a running box looks like from outside: the agent's status, the cloud side's file; in numbers and in plain lines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headwater_cloud.history import History
from headwater_cloud.views import AlertView
from headwater_edge import words
from headwater_shared.errors import Refused, StateError


class View:
    """Looks at one box again and again; whatever does not answer yet is left out."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._history: History | None = None
        self._alerts: dict[str, str] = {}
        """The state of each alert when last looked at."""
        self._before: tuple[float, int] = (0.0, 0)

    def agent(self) -> dict[str, Any]:
        """Return the agent's status; empty while it does not answer."""
        try:
            return words.say(self._data / "edge.sock", "status", timeout_s=5)
        except Refused:
            return {}

    def history(self) -> History | None:
        """Return the cloud side's history, once it is there."""
        if self._history is None:
            try:
                self._history = History(self._data / "cloud.db")
            except StateError:
                return None
        return self._history

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
            complete = [progress.complete_us for progress in history.progress()]
            lag = f"{(now_us - min(complete)) / 1e6:.0f} s" if complete else "-"
        return (
            f"{seconds:4.0f} s  {status['devices']} devices  {accepted:,} readings ({rate:,.0f}/s)  "
            f"{windows:,} windows  complete up to {lag} ago  resent {status['by_transport'] + status['by_meaning']:,}  "
            f"late {status['late']:,}  dead {status['dead']:,}"
        )

    def news(self) -> list[tuple[AlertView, str]]:
        """Return a line for each alert that fired or was resolved since the last look, with the alert."""
        history = self.history()
        if history is None:
            return []
        lines = []
        for alert in reversed(history.alerts()):
            if self._alerts.get(alert.id) != alert.state:
                if alert.id not in self._alerts and alert.state == "resolved":
                    lines.append((alert, _line(alert, "firing")))
                self._alerts[alert.id] = alert.state
                lines.append((alert, _line(alert, alert.state)))
        return lines

    def close(self) -> None:
        if self._history is not None:
            self._history.close()


def _line(alert: AlertView, state: str) -> str:
    fired = state == "firing"
    when = alert.episode_us if fired else alert.time_us
    return (
        f"        {'ALERT' if fired else 'OVER '}  {clock_time(when)}  {alert.severity}  {alert.subject}  "
        f"{alert.rule}: {alert.text or 'limit broken'}" + ("" if fired else f" (value {alert.value:g})")
    )


def clock_time(us: int) -> str:
    """Write an event time of the day, UTC."""
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%H:%M:%S.%f")[:-5]
