"""Runs the benches: all of them, or those whose ids are named. `python -m tests.bench.run [ID ...]`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import (
    act,
    audit,
    broker,
    decode,
    detect,
    detect_scenarios,
    drain,
    fleet,
    kafka,
    latency,
    listener,
    onnx,
    pages,
    recover,
    reload,
    river,
    rules,
    size,
    step,
    stop_and_wait,
    with_detectors,
)
from tests.bench.cloud import alert_latency as cloud_alert_latency
from tests.bench.cloud import catch_up, storm, wire
from tests.bench.cloud import influx as cloud_influx
from tests.bench.cloud import kill as cloud_kill
from tests.bench.cloud import latency as cloud_latency
from tests.bench.cloud import local as cloud_local
from tests.bench.cloud import patterns as cloud_patterns
from tests.bench.cloud import rows as cloud_rows
from tests.bench.cloud import scrape as cloud_scrape
from tests.bench.cloud import state as cloud_state
from tests.bench.results import GOALS, Result, keep

BENCHES: dict[tuple[str, ...], Callable[[Path], Iterator[Result]]] = {
    ("edge-step",): step.run,
    ("rules-1000",): rules.run,
    ("decode-json",): decode.json_payloads,
    ("decode-senml",): decode.senml,
    ("decode-sparkplug",): decode.sparkplug,
    ("decode-mapping",): decode.mapping,
    ("edge-start",): size.start,
    ("edge-recover",): recover.run,
    ("reload",): reload.run,
    ("edge-alert-latency",): latency.latency,
    ("edge-act-latency",): act.latency,
    ("edge-listener-20",): listener.twenty,
    ("edge-listener-500",): listener.five_hundred,
    ("edge-listener-max",): listener.largest,
    ("edge-stop-and-wait",): stop_and_wait.run,
    ("edge-listener-tls",): listener.tls,
    ("edge-mosquitto-10k",): broker.ten_thousand,
    ("edge-mosquitto-40k",): broker.forty_thousand,
    ("edge-mosquitto-multi",): broker.multi,
    ("edge-mosquitto-max",): broker.largest,
    ("edge-memory-ml",): with_detectors.memory,
    ("edge-listener-20-ml",): with_detectors.listener,
    ("edge-mosquitto-10k-ml",): with_detectors.mosquitto,
    ("detect-onnx",): onnx.run,
    ("detect-river",): river.run,
    ("edge-drain",): drain.run,
    ("bus-kafka",): kafka.run,
    ("cloud-rows",): cloud_rows.rows,
    ("cloud-two",): cloud_rows.two,
    ("cloud-local",): cloud_local.run,
    ("cloud-latency",): cloud_latency.run,
    ("alert-latency",): cloud_alert_latency.run,
    ("cloud-kill",): cloud_kill.run,
    ("cloud-state",): cloud_state.run,
    ("alert-storm",): storm.run,
    ("patterns-1000",): cloud_patterns.run,
    ("wire-bytes",): wire.run,
    ("sink-influx",): cloud_influx.run,
    ("scrape",): cloud_scrape.run,
    ("sink-catch-up",): catch_up.run,
    ("audit-10m",): audit.run,
    ("sim-fleet-10k",): fleet.run,
    ("edge-disk-pages",): pages.run,
    ("detect-default",): detect.default,
    ("detect-nab-dev",): detect.nab,
    ("detect-scenarios",): detect_scenarios.run,
    ("edge-memory", "edge-idle", "edge-disk-bytes"): size.memory_and_disk,
}
"""What each function measures."""


def main(wanted: list[str]) -> int:
    """Run, print a line a figure, keep the results; 2 if an id is unknown."""
    unknown = set(wanted) - set(GOALS)
    if unknown:
        print(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(GOALS)}")
        return 2
    for ids, bench in BENCHES.items():
        if wanted and not set(ids) & set(wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="headwater-bench-", dir=Path.cwd()) as folder:
            for result in bench(Path(folder)):
                keep(result)
                print(
                    f"{result.id:20} {result.figure:10.4g} {result.unit:32} baseline {result.baseline:10.4g}"
                    f"  ratio {result.figure / result.baseline if result.baseline else float('nan'):6.3f}"
                    f"  goal: {GOALS[result.id]}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
