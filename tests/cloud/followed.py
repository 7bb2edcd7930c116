"""A cloud side's file that a sink follows into a store, stepped by hand; and what of the file stands in the store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from headwater_cloud import changes, influx_file
from headwater_cloud.follow import Follower, Step
from headwater_cloud.influx_file import InfluxFile
from headwater_cloud.influx_v1 import V1
from headwater_cloud.influx_write import Later, Transport, Writer
from headwater_cloud.retention import Keep
from headwater_cloud.store import Store
from tests.cloud.line_store import LineStore
from tests.cloud.side import FILE, rows_of

NAMES = (
    "SELECT s.name, l.name, x.start, x.count, x.digest, x.mean, x.min, x.max, x.first, x.last, x.parts, x.revision FROM window x"
    " JOIN series s ON s.id = x.series JOIN level l ON l.id = x.level"
)
_FIELDS = ("count", "digest", "mean", "min", "max", "first", "last", "parts", "revision")

FOREVER = Keep({}, 7 * 86_400 * 1_000_000)


def register(store: Store, *, wanted: bool = True) -> None:
    """As the cloud side's process does at its start."""
    with store.transaction() as connection:
        changes.register(connection, wanted=wanted)


class Sink:
    """One process of the sink on a folder."""

    def __init__(
        self, folder: Path, url: str = "", *, batch: int = 5_000, max_series: int = 1_000, keep: Keep = FOREVER,
        transport: Transport | None = None, prefix: str = "hw", unsure: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self._unsure = folder, unsure
        self._make: Callable[[], tuple[InfluxFile, Follower]] = lambda: self._open(
            url, batch, max_series, keep, transport, prefix
        )
        self.file, self.follower = self._make()

    def _open(
        self, url: str, batch: int, max_series: int, keep: Keep, transport: Transport | None, prefix: str
    ) -> tuple[InfluxFile, Follower]:  # fmt: skip
        self.transport = transport or V1(url, "", "", 5.0)
        file = InfluxFile(self.folder / influx_file.FILE)
        self.writer = Writer(
            self.transport, file.bury, chance=lambda: 0.0, wall_us=lambda: 7, missing=file.lost
        )
        return file, Follower(
            self.folder / FILE,
            file,
            self.writer,
            prefix=prefix,
            batch=batch,
            max_series=max_series,
            keep=keep,
            unsure=self._unsure,
        )

    def run(self) -> int:
        """Step until nothing is left. Returns how many points were written."""
        points = 0
        while True:
            step = self.follower.step()
            points += step.points
            if step == Step(0, False, 0):
                return points

    def try_to(self) -> str:
        """Step until nothing is left, or the store does not take it: what it said."""
        with suppress(Later):
            self.run()
            return ""
        try:
            self.follower.step()
        except Later as later:
            return f"{later}"
        return ""

    def reopen(self) -> None:
        """End the process and start the next one."""
        self.close()
        self.file, self.follower = self._make()

    def close(self) -> None:
        self.follower.close()
        self.file.close()
        self.transport.close()


def windows_of_file(folder: Path) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """By series, level and start, what the cloud's file says of each window."""
    return {row[:3]: row[3:] for row in rows_of(folder, NAMES)}


def windows_of_store(store: LineStore) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """By series, level and start, what the store says of each window that counts."""
    found = {}
    for (_, head, time), fields in store.points.items():
        if head.startswith("windows,") and fields["count"]:
            tags = dict(tag.split("=") for tag in head.split(",")[1:])
            digest = (fields["digest_hi"] << 32 | fields["digest_lo"]) - (
                2**64 if fields["digest_hi"] >= 2**31 else 0
            )
            series = f"{tags['site']}/{tags['device']}/{tags['metric']}"
            found[series, tags["level"], time // 1000] = tuple(
                (fields | {"digest": digest})[name] for name in _FIELDS
            )
    return found


def of(store: LineStore, measurement: str) -> list[dict[str, Any]]:
    """The points of a measurement, tags and fields, by time."""
    return [
        {**dict(tag.split("=") for tag in head.split(",")[1:]), **fields, "time": time}
        for (_, head, time), fields in sorted(store.points.items(), key=lambda item: item[0][2])
        if head.split(",")[0] == measurement
    ]
