"""What the agent puts out on the spot, for people and for other programs: local alerts and egress, by the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from headwater_edge.alert_routes import Letter, Send
from headwater_edge.alert_settings import AlertSettings, check_alerts
from headwater_edge.alerts import Alerts
from headwater_edge.commit import Job, Writer
from headwater_edge.egress import Egress, Show
from headwater_edge.egress_settings import check_egress
from headwater_edge.home_assistant import About, Announced
from headwater_edge.outlet import Outlet
from headwater_edge.settings import EdgeSettings
from headwater_edge.topic_templates import check_no_return
from headwater_edge.webhook import Webhook
from headwater_edge.window_settings import levels_of, some_levels
from headwater_shared.errors import TryAgain
from headwater_shared.logs import get_logger

log = get_logger()


class PutOut:
    """All of it; nothing goes out before `start`, and what was to is in the agent's file by then.

    Raises:
        SettingsError: the settings do not make sense.
    """

    def __init__(self, settings: EdgeSettings, writer: Writer) -> None:
        self._secrets = check_put_out(settings)
        self._settings = settings
        self.alerts = Alerts(settings.alert, partial(writer.take_along, now=True))
        writer.alerts_of = self.alerts.rows_of
        self.egress: Egress | None = None
        self._outlets: dict[str, Outlet] = {}

    def committed(self, job: Job) -> None:
        """A tick is on disk."""
        if job.alerts:
            self.alerts.committed(job.alerts)
        if self.egress is not None:
            self.egress.committed(job.output)

    def start(
        self, path: Path, show: Show, passwords: Sequence[str], about: Callable[[str], About], version: str
    ) -> None:
        """Begin to put out.

        Args:
            path: of the agent's file.
            show: sends to those who subscribed at the listener.
            passwords: of the brokers, in their order.
            about: what is known of a series.
        """
        settings, egress = self._settings, self._settings.egress
        used = {one.broker for one in settings.alert} | {egress.broker}
        for broker, password in zip(settings.broker, passwords, strict=True):
            if broker.name in used:
                self._outlets[broker.name] = Outlet(broker, settings.name, password)
        if egress.windows or egress.anomalies or egress.devices:
            announced = Announced(egress, settings.name, about, version) if egress.home_assistant else None
            outlet = self._outlets.get(egress.broker)
            self.egress = Egress(egress, settings.name, show, outlet, announced)
            self.egress.start()
        self.alerts.start(path, partial(self._send_of, show))
        for one in self._outlets.values():
            one.start()

    async def close(self) -> None:
        await self.alerts.close()
        if self.egress is not None:
            await self.egress.close()
        for outlet in self._outlets.values():
            await outlet.close()

    def status(self) -> dict[str, Any]:
        """Return what a person sees of it."""
        egress = {"egress": self.egress.status()} if self.egress is not None else {}
        return {**self.alerts.status(), **egress}

    def troubles(self) -> list[str]:
        """Return what is wrong, in a sentence each."""
        return self.alerts.troubles()

    def _send_of(self, show: Show, one: AlertSettings) -> Send:
        if one.to == "webhook":
            secret = self._secrets[self._settings.alert.index(one)]
            return Webhook(one, secret, self._settings.name).send
        if one.to == "log":
            return partial(_to_log, one.name)
        if one.broker:
            return partial(_to_broker, self._outlets[one.broker], one.retain)
        return partial(_to_listener, show)


def check_put_out(settings: EdgeSettings) -> list[bytes]:
    """Check alerts and egress, and return the alerts' secrets, b"" for none.

    Raises:
        SettingsError: with what to change.
    """
    brokers = [broker.name for broker in settings.broker]
    secrets = check_alerts(settings.alert, brokers)
    levels = levels_of(settings.windows.levels, settings.windows.time)
    some = [level.name for level in some_levels(settings.window, levels)]
    check_egress(settings.egress, brokers, [*levels, *some])
    egress = settings.egress
    topics = [(f"edge.alert {one.name!r}", one.broker, one.topic) for one in settings.alert]
    own = (egress.window_topic, egress.anomaly_topic, egress.device_topic)
    topics += [("edge.egress", egress.broker, topic) for topic in own]
    for broker in settings.broker:
        for where, name, topic in topics:
            if name == broker.name:
                check_no_return(where, topic, broker.filters)
    return secrets


async def _to_log(name: str, letter: Letter) -> None:
    log.warning("alert", alert=name, key=letter.key, said=letter.body.decode())


async def _to_broker(outlet: Outlet, retain: bool, letter: Letter) -> None:
    await outlet.publish(letter.topic, letter.body, qos=1, retain=retain)


async def _to_listener(show: Show, letter: Letter) -> None:
    if not show(letter.topic, letter.body):
        raise TryAgain("nobody is subscribed at the listener who may read it")
