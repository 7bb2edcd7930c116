"""A courier in a test's folder, stepped by hand: real files, the test's clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwater_cloud import notify_file, sends
from headwater_cloud.ack_links import AckLinks
from headwater_cloud.courier import Courier
from headwater_cloud.notify_settings import NotifySettings, check_zones, read_routes
from headwater_shared.clock import Clock

LINES = "notifications.jsonl"
NOTIFY = notify_file.FILE


def courier_of(
    folder: Path,
    clock: Clock,
    routes: Sequence[NotifySettings] = (),
    *,
    lines: str = LINES,
    zones: dict[str, str] | None = None,
    file: str = "cloud.db",
    url: str = "",
) -> Courier:
    """Make one that is not open yet; without routes of its own it writes the file of lines."""
    known = check_zones(zones or {})
    links = AckLinks(folder / "data", url, clock)
    return Courier(
        folder / NOTIFY, folder / file, read_routes(routes, lines), known, clock,
        lambda rules: sends.send_of(rules, str(folder), known, links.link), ack=links.link,
    )  # fmt: skip


def deliver(some: Courier) -> None:
    """Deliver all that is to be delivered now, if no other process has the file."""
    if some.open():
        some.deliver()
