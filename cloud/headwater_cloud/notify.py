"""Tells people: a JSON line for each change of an alert, synced, and a line in the log (R29)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from headwater_cloud.metrics import Metrics
from headwater_cloud.outputs import Notification, Report
from headwater_shared.crash import reached
from headwater_shared.errors import TryAgain
from headwater_shared.logs import get_logger

log = get_logger()


class JsonLines:
    """A file of one JSON object a line; it is opened for each batch, so that it may be moved away at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, notifications: Sequence[Notification]) -> None:
        """Append a line each, durable on return.

        Raises:
            TryAgain: some may be in the file, some not.
        """
        lines = b"".join(line(notification) for notification in notifications)
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if _torn(fd):
                    lines = b"\n" + lines
                while lines:
                    lines = lines[os.write(fd, lines) :]
                reached("cloud.notify.written")
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise TryAgain(
                f"notifications cannot be written to {self._path}: {error.strerror}",
                hint="check the path, its owner and the free space; they are kept and sent later",
            ) from error


def line(notification: Notification) -> bytes:
    """The JSON line of a notification, with times for people."""
    fields = msgspec.to_builtins(notification)
    fields["begin"] = iso(fields.pop("begin_us"))
    fields["time"] = iso(fields.pop("time_us"))
    if "known_us" in fields:
        fields["known"] = iso(fields.pop("known_us"))
    return msgspec.json.encode(fields) + b"\n"


def say(notifications: Sequence[Notification]) -> None:
    """Say it in the log too."""
    for n in notifications:
        tell = log.warning if n.state != "resolved" else log.info
        tell(
            f"alert {n.state}",
            subject=n.subject,
            rule=n.rule,
            value=n.value,
            text=n.text,
            since=iso(n.begin_us),
        )


def report(reports: Iterable[Report], metrics: Metrics) -> None:
    """Say in the log, and count, what is amiss with agents' streams."""
    for one in reports:
        metrics.reports.labels(one.kind).inc()
        log.warning("report", kind=one.kind, agent=one.agent, shard=one.shard, text=one.text)


def iso(time_us: int) -> str:
    """A time as ISO 8601 in UTC; as a number where a calendar has no such day."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us}us"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _torn(fd: int) -> bool:
    """Whether the last line has no end: the process before was killed inside it."""
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"
