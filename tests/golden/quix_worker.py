"""A worker that plays a trace: `python -m tests.golden.quix_worker ADDRESS PREFIX FOLDER [SLOT]`, until SIGTERM.

As `headwater-cloud worker`, but for time: a trace brings its own clock records, each believed by the time at which it lay on the bus.
"""

from __future__ import annotations

import sys
from pathlib import Path

from headwater_cloud.pipeline import Limits
from headwater_cloud.quix_engine import Engine
from headwater_cloud.quix_runner import QuixRunner
from headwater_cloud.retention import Keep
from headwater_cloud.shared_store import SharedStore
from headwater_shared import logs
from headwater_shared.kafka_settings import KafkaSettings, connection
from tests.cloud.made import DAY
from tests.cloud.side import FILE


def main() -> None:
    address, prefix, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    logs.configure("json", "warning", part="cloud")
    sink = SharedStore(folder / FILE, Keep({}, 7 * DAY, None))
    slot = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    engine = Engine(f"{prefix}cloud", slot, str(folder / "state"), commit_s=0.1)
    client = connection(address, KafkaSettings())
    QuixRunner(client, prefix, engine, sink, lambda shown_us: shown_us, Limits(), 7 * DAY).run()
    sink.close()


if __name__ == "__main__":
    main()
