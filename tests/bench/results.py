"""A bench result: one JSON file a permanent id, beside it the baseline of the same run and the machine."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent / "results"

GOALS: dict[str, str] = {
    "edge-step": "at most 1.8 us of CPU a reading",
    "rules-1000": "at most 0.5 us of CPU a reading",
    "decode-json": "at most 0.2 us of CPU a reading",
    "decode-senml": "at most 0.6 us of CPU a reading",
    "decode-sparkplug": "at most 1.0 us of CPU a reading",
    "decode-mapping": "at most 0.5 us of CPU a reading",
    "edge-listener-20": "at most 8 us a message, at most 1/6 of the baseline with its broker",
    "edge-listener-500": "at most 0.8 of the bare server",
    "edge-listener-max": "at least 60,000 messages/s",
    "edge-stop-and-wait": "p99 at most 300 ms",
    "edge-listener-tls": "at most 2 times the plain one",
    "edge-mosquitto-10k": "at most 5 us of CPU a message, at most 1/8 of paho and dict",
    "edge-mosquitto-40k": "at most 3.5 us of CPU a message",
    "edge-mosquitto-multi": "at most 1.6 us of CPU a reading",
    "edge-mosquitto-max": "at least 60,000 messages/s, none lost",
    "edge-memory": "at most 60 MB",
    "edge-idle": "under 1% of a core",
    "edge-start": "at most 1 s",
    "edge-recover": "at most 3 s",
    "edge-disk-bytes": "at most 50 bytes a reading",
    "edge-disk-pages": "at most 40 bytes a reading at the best",
    "reload": "at most 300 ms longer than without",
    "edge-alert-latency": "p99 at most 150 ms",
    "edge-act-latency": "p99 at most 150 ms",
    "edge-memory-ml": "at most 190 MB",
    "edge-listener-20-ml": "at most 1 us a reading",
    "edge-mosquitto-10k-ml": "at most 1 us a reading",
    "detect-onnx": "at most 1.3 times bare onnxruntime",
    "detect-river": "each at most 1.15 times the bare library",
    "detect-default": "at most 3 us of CPU a scored point",
    "detect-nab-dev": "at least 60 with a frozen threshold, and a VUS-PR of 0.36",
    "detect-scenarios": "at least 90% of the faults above the noise found, at most 2 false alarms a stream-week",
    "edge-drain": "at least 100 times real time, live p99 unharmed, a new anomaly through within 2 s",
    "bus-kafka": "at most 1.3 times confluent-kafka by hand",
    "cloud-rows": "at least 500,000 rows/s a core at 1,000 rows a frame, at least 10 times the per-row program",
    "cloud-two": "at most 1.15 times one",
    "cloud-local": "at least 300,000 rows/s",
    "cloud-latency": "p99 at most 2 s each",
    "alert-latency": "p99 at most 2 s",
    "cloud-kill": "at most 4 s",
    "cloud-state": "at most 1.5 KB a series",
    "alert-storm": "at most 10 notifications, no alert lost from the list",
    "patterns-1000": "at most 500 us of CPU an anomaly: half a core at 1,000 a second",
    "wire-bytes": "at most 70 bytes a row",
    "sink-influx": "at least 5 times fewer us a point than influxdb-client's Point objects and batching",
    "scrape": "at most 50 ms with 1,000 agents",
    "sink-catch-up": "at least 20 times real time",
    "audit-10m": "at most 60 s and 1 GB",
    "sim-fleet-10k": "at most 20 us a message, 40,000 messages/s into a bare sink, 15,000/s through the agent, at most 1 GB",
}
"""Every bench there is, with what is asked of it; ids are for ever."""


class Result(msgspec.Struct):
    """What one bench found."""

    id: str
    figure: float
    unit: str
    baseline: float
    baseline_is: str
    durability: str
    more: dict[str, Any] = {}

    def written(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "id": self.id,
            "figure": _short(self.figure),
            "unit": self.unit,
            "goal": GOALS[self.id],
            "baseline": _short(self.baseline),
            "baseline_is": self.baseline_is,
            "ratio": _short(self.figure / self.baseline) if self.baseline else None,
            "durability": self.durability,
            "more": {
                name: _short(value) if isinstance(value, float) else value
                for name, value in self.more.items()
            },
            "machine": machine(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def keep(result: Result) -> Path:
    """Write a result over the one before."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{result.id}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result.written()), indent=1) + b"\n")
    return path


def machine() -> dict[str, Any]:
    """Describe the machine: what a figure means depends on it."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1e6),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_1m": round(os.getloadavg()[0], 2),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
