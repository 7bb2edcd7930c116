"""Spans of what an agent found, from the close of the window to the bus: made only while `tracing` is on.

| span | within | from, to |
| --- | --- | --- |
| `window close`, or `readings` of a rule that looks at these | | the tick is gathered, its commit is on the disk |
| `detect` | the first one | the step, which closed the window and found it |
| `journal commit` | the first one | the transaction |
| `forward` | the first one | the row is given to the bus, the bus has it; it may come long after, and again |
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from headwater_edge.commit import Job
from headwater_edge.outbox import Row
from headwater_edge.output import Output
from headwater_shared import records, trace, tracing
from headwater_shared.bus import Record
from headwater_shared.clock import Clock, wall_of
from headwater_shared.records import Anomaly
from headwater_shared.tracing import Said, Span

_WINDOW = "window close"


def context_of(row: Anomaly) -> str:
    """Return the context of the row as it will stand in its record."""
    return trace.traceparent(records.identity_text(row.agent, row.epoch, row.shard, row.seq))


class Traced:
    """The ticks of one agent; at most one is stepped and not committed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stepped_us = 0

    def stepped(self) -> None:
        """A tick was stepped."""
        self._stepped_us = tracing.begun()

    def committed(self, job: Job) -> None:
        """It is committed."""
        if self._stepped_us and job.output.anomalies:
            began_us = wall_of(self._clock, job.tick.now.wall_us)
            _found(job.output, began_us, self._stepped_us, tracing.now_us())


def _found(output: Output, began_us: int, stepped_us: int, now_us: int) -> None:
    for row in output.anomalies:
        context = context_of(row)
        window = trace.child(context, _WINDOW)
        said: Said = {
            "agent": row.agent,
            "series": row.series,
            "rule": row.rule,
            "anomaly": row.id,
            "phase": row.phase,
            "tick": row.tick,
        }
        name = _WINDOW if math.isnan(row.limit) else "readings"
        tracing.put(Span(window, "", name, began_us, now_us, said))
        tracing.put(Span(trace.child(context, "detect"), window, "detect", began_us, stepped_us, said))
        tracing.put(
            Span(trace.child(context, "journal commit"), window, "journal commit", stepped_us, now_us, said)
        )


def forwarded(rows: Sequence[Row], out: Sequence[Record], bus: str, began_us: int, *, replayed: bool) -> None:
    """Put the spans of what was found among rows that the bus has now; `out` are their records, in order.

    `began_us`: see `tracing.begun`.
    """
    for row, record in zip(rows if began_us else (), out, strict=False):
        if row.kind == records.ANOMALY:
            context = record.headers[trace.HEADER]
            said: Said = {
                "row": record.headers["ce_id"],
                "bus": bus,
                "replayed": int(replayed),
                "bytes": len(record.body),
            }
            window = trace.child(context, _WINDOW)
            tracing.put(Span(context, window, "forward", began_us, tracing.now_us(), said, "producer"))
