"""What a row costs the plain way: a JSON message a part, merged in keyed state, exactly-once, as Quix's own tutorials write it.

`python -m tests.bench.cloud.per_row SERVERS TOPIC GROUP STATE` says at each thousandth row what it has used; see `worker`.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from quixstreams import Application
from quixstreams.state import State

from tests.bench.cloud.worker import say

EVERY = 1_000


def merge(row: dict[str, Any], state: State[str, Any]) -> dict[str, Any]:
    """Merge a part into its window."""
    key = f"{row['level']}/{row['start']}"
    window = state.get(key)
    if window is None:
        window = {"count": 0, "sum": 0.0, "min": row["min"], "max": row["max"]}
    window["count"] += row["count"]
    window["sum"] += row["mean"] * row["count"]
    window["min"] = min(window["min"], row["min"])
    window["max"] = max(window["max"], row["max"])
    state.set(key, window)
    return window


def main(servers: str, topic: str, group: str, state: str) -> None:
    """Run until SIGTERM."""
    app = Application(
        broker_address=servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.2,
        state_dir=state,
        loglevel=None,
    )
    rows = 0

    def count(_: dict[str, Any]) -> None:
        nonlocal rows
        rows += 1
        if rows % EVERY == 0:
            say(rows=rows)

    app.dataframe(app.topic(topic, value_deserializer="json")).apply(merge, stateful=True).update(count)
    signal.signal(signal.SIGTERM, lambda *_: app.stop())
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
