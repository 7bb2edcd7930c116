"""Alerts in a cloud's file of a test, a courier that posts them, and what stands for an Alertmanager where the bytes are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from headwater_cloud.alert_changes import Change
from headwater_cloud.notify_settings import NotifySettings
from headwater_cloud.store import Store
from headwater_cloud.write import write_alerts
from headwater_shared.alert_records import Alert
from headwater_shared.clock import Clock
from tests.cloud.notified import courier_of, deliver
from tests.cloud.receivers import Hook
from tests.cloud.side import FILE

S = 1_000_000
_C = TypeVar("_C", bound=Clock)


def route(url: str, **more: Any) -> NotifySettings:
    """A route to an Alertmanager."""
    return NotifySettings("am", "alertmanager", url=url, **more)


class Fires(Generic[_C]):
    """One cloud side's file and courier; two of them with the same alerts are two senders."""

    def __init__(self, folder: Path, routes: Sequence[NotifySettings], clock: _C, **more: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.routes, self.more = folder, routes, more
        self.clock = clock
        self.store = Store(folder / FILE)
        self.n = 0
        self.known: dict[str, Alert] = {}
        self.courier = courier_of(folder, self.clock, routes, **more)
        self.courier.begin()

    def put(self, name: str, state: str = "firing", **more: Any) -> Alert:
        """Commit how an alert stands; what is not said of one that is known stays."""
        self.n += 1
        now_us = self.clock.now().wall_us
        site, _, metric = name.partition("/")
        fields = {"id": f"id-{name}", "rule": "too-hot", "subject": f"{site}/{metric}/temp", "severity": "warning", "text": "too hot", "value": 9.0,
                  "episode_us": now_us - 30 * S, "time_us": now_us, "anomaly": "", "key": name, "site": site, "device": name,
                  "fired_us": now_us - 20 * S, "incident": "i1"}  # fmt: skip
        if name in self.known:
            fields |= msgspec.structs.asdict(self.known[name])
        fields |= {"state": state, "n": self.n, "changed_us": now_us, **more}
        if state == "resolved":
            fields["end_us"] = more.get("end_us", now_us - 5 * S)
        self.known[name] = alert = msgspec.convert(fields, Alert)
        with self.store.transaction() as connection:
            write_alerts(connection, [Change(alert, True, True)])
        return alert

    def deliver(self) -> None:
        deliver(self.courier)

    def again(self) -> None:
        """End the courier's process, and start the next one."""
        self.courier.close()
        self.courier = courier_of(self.folder, self.clock, self.routes, **self.more)
        self.courier.begin()

    def close(self) -> None:
        self.courier.close()
        self.store.close()


def told(hook: Hook, since: int = 0) -> dict[str, dict[str, Any]]:
    """What an Alertmanager at the hook knows of each subject and severity: the last word."""
    found = {}
    for posted in hook.got[since:]:
        for alert in msgspec.json.decode(posted.body):
            found[f"{alert['labels']['subject']} {alert['labels']['severity']}"] = alert
    return found


def ends_in(alert: dict[str, Any], clock: Clock) -> float:
    """Seconds from now to the end of a posted alert."""
    return datetime.fromisoformat(alert["endsAt"]).timestamp() - clock.now().wall_us / S
