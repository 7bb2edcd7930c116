"""Spans of what came of an anomaly in the cloud, from its record to the message: made only while `tracing` is on.

| span | within | from, to |
| --- | --- | --- |
| `merge` | `forward` of the agent | the batch is read, the operators have run |
| `commit` | `merge` | the transaction of the batch |
| `alert` | `merge` | it is decided, it is committed; one a change |
| `notify` | `alert` | a try of one route to tell it; one that failed is of status error |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from headwater_cloud.outputs import Notification
from headwater_shared import trace, tracing
from headwater_shared.alert_records import Alert
from headwater_shared.tracing import Said, Span

if TYPE_CHECKING:
    from headwater_cloud.pipeline import Output


class Laps:
    """When a batch was read, worked on, and began to be committed; real microseconds, 0 while nobody wants spans."""

    def __init__(self) -> None:
        self.read_us = self.ran_us = self.commit_us = 0

    def read(self) -> None:
        self.read_us = tracing.begun()

    def ran(self) -> None:
        self.ran_us = tracing.now_us() if self.read_us else 0

    def commits(self) -> None:
        self.commit_us = tracing.now_us() if self.ran_us else 0

    def committed(self, outs: Iterable[Output]) -> None:
        """Put the spans of what some outputs brought, which are committed now."""
        if self.commit_us:
            now_us = tracing.now_us()
            for out in outs:
                _spans(out, self, now_us)


def context_of(by: str, alert: Alert) -> str:
    """Return the context of a change of an alert that an anomaly brought."""
    return trace.child(by, f"alert/{alert.id}/{alert.n}")


def told(notifications: Iterable[Notification], led: Sequence[tuple[str, Alert]]) -> list[Notification]:
    """Return messages with the trace of the change that they tell of, as far as one is known: of their alert, or of their incident."""
    contexts: dict[str, str] = {}
    for by, alert in led:
        if alert.incident:
            contexts[alert.incident] = context_of(by, alert)
    contexts |= {alert.id: context_of(by, alert) for by, alert in led}
    found = []
    for one in notifications:
        names = (one.id.partition("/")[0], one.alert, one.incident)
        context = next((contexts[name] for name in names if name in contexts), "")
        found.append(msgspec.structs.replace(one, trace=context) if context else one)
    return found


def _spans(out: Output, laps: Laps, now_us: int) -> None:
    said: dict[str, int] = {
        "records": sum(out.counts[name] for name in ("frames", "anomalies", "commands")),
        "rows": out.counts["rows"],
    }
    for (agent, _, shard, seq), context in out.traces.items():
        if context:
            merge = _merge(context)
            of_row: Said = {"agent": agent, "shard": shard, "seq": seq, **said}
            tracing.put(Span(merge, context, "merge", laps.read_us, laps.ran_us, of_row, "consumer"))
            commit = trace.child(context, "commit")
            tracing.put(Span(commit, merge, "commit", laps.commit_us, now_us, of_row))
    for by, alert in out.led:
        of_alert: Said = {
            "alert": alert.id,
            "rule": alert.rule,
            "subject": alert.subject,
            "change": alert.what,
            "severity": alert.severity,
        }
        tracing.put(Span(context_of(by, alert), _merge(by), "alert", laps.ran_us, now_us, of_alert))


def sent(route: str, some: Iterable[Notification], began_us: int, failed: str = "") -> None:
    """Put a span for each message that a route tried to tell; `began_us`: see `tracing.begun`."""
    now_us = tracing.now_us() if began_us else 0
    for one in some:
        if one.trace and began_us:
            said: Said = {"route": route, "notification": one.id, "alert": one.alert, "state": one.state}
            name = f"notify/{route}/{one.id}" + (f"/{began_us}" if failed else "")
            tracing.put(
                Span(
                    trace.child(one.trace, name),
                    one.trace,
                    "notify",
                    began_us,
                    now_us,
                    said,
                    "client",
                    failed,
                )
            )


def _merge(context: str) -> str:
    return trace.child(context, "merge")
