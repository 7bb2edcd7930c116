"""How the settings have people told: the courier and its pages, alike in the one process of size S and in each worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from headwater_cloud import influx_file, sends
from headwater_cloud.ack_links import AckLinks
from headwater_cloud.acknowledged import acknowledged
from headwater_cloud.changes import Followed
from headwater_cloud.courier import Courier
from headwater_cloud.metrics import Metrics
from headwater_cloud.notify_file import FILE, taken_up_to
from headwater_cloud.notify_metrics import NotifyMetrics
from headwater_cloud.notify_pages import NotifyPages
from headwater_cloud.notify_settings import check_zones, read_routes
from headwater_cloud.retention import Keep
from headwater_cloud.settings import CloudSettings, in_data
from headwater_shared.bus import Bus
from headwater_shared.clock import Clock
from headwater_shared.settings import Common


class Notifying:
    """Routes, zones and links as they are set; what tells people by them is made when the cloud's file is there."""

    def __init__(self, common: Common, settings: CloudSettings, clock: Clock) -> None:
        """Read the settings; the data folder must be there.

        Raises:
            SettingsError: a route or a zone cannot be.
        """
        self._data, self._clock = Path(common.data), clock
        self._file = in_data(common.data, settings.file)
        self._routes = read_routes(settings.notify, settings.notifications)
        self._zones = check_zones(settings.zones)
        self._links = AckLinks(self._data, settings.public_url, clock)

    def courier(self, *, alone: bool = True) -> Courier:
        """Return the courier, which has not begun; `alone`: no other process has one for the same file."""
        return Courier(
            self._data / FILE, self._file, self._routes, self._zones, self._clock,
            lambda rules: sends.send_of(rules, str(self._data), self._zones, self._links.link),
            alone=alone, ack=self._links.link,
        )  # fmt: skip

    def pages(self, courier: Courier, open_bus: Callable[[], Bus]) -> NotifyPages:
        """Return the pages by which people acknowledge; what they do goes to a bus opened for it."""
        return NotifyPages(
            courier, self._data, self._links, self._zones, self._clock,
            partial(acknowledged, open_bus, self._file),
        )  # fmt: skip


def count_in(metrics: Metrics, courier: Courier) -> None:
    """Let a courier be seen in the process's metrics."""
    metrics.registry.register(NotifyMetrics(courier.status))
    courier.delivered, courier.took = metrics.delivered, metrics.took


def kept(settings: CloudSettings, data: Path) -> Keep:
    """What the settings keep, and with it what the courier and the sink have not taken yet."""
    return settings.kept()._replace(
        told=partial(taken_up_to, data / FILE),
        followed=Followed(partial(influx_file.followed, data / influx_file.FILE)),
    )
