"""The real agent as it was before: detectors' anomalies under `anomaly-1`, and no `traceparent` beside its rows (`python -m`)."""

from __future__ import annotations

import sys

from headwater_edge import process
from headwater_shared import records, trace
from headwater_shared.records import Anomaly

_headers = records.headers


def _without_trace(kind: str, ce_id: str, source: str, time_us: int, **more: str) -> dict[str, str]:
    more.pop(trace.HEADER, None)
    return _headers(kind, ce_id, source, time_us, **more)


if __name__ == "__main__":
    records._KINDS[Anomaly] = ("anomaly-1",)
    setattr(records, "headers", _without_trace)  # noqa: B010 - it is a function of the module
    sys.exit(process.main(sys.argv[1:]))
