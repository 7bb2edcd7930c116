"""What is said of alerts and of agents' streams in the log, and how times are written for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from headwater_cloud.metrics import Metrics
from headwater_cloud.outputs import Notification, Report
from headwater_shared.logs import get_logger
from headwater_shared.trace import trace_of

log = get_logger()


def say(notifications: Sequence[Notification]) -> None:
    """Say it in the log too."""
    for n in notifications:
        fields: dict[str, object] = {
            "state": n.state,
            "subject": n.subject,
            "rule": n.rule,
            "value": n.value,
            "text": n.text,
        }
        fields |= {"since": iso(n.begin_us), "alert": n.alert}
        if n.trace:
            fields["trace"] = trace_of(n.trace)
        if n.state == "resolved":
            log.info("alert resolved", **fields)
        else:
            log.warning("alert firing", **fields)


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
