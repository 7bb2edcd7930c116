"""`audit-10m`: a ledger of ten million readings against the stores that they must have become; time and memory of the command."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit import LEVELS
from headwater_appliance.audit_sent import Sent, windows_of
from headwater_cloud.columns import WINDOW_COLUMNS
from headwater_cloud.store import Store
from headwater_edge.store import open_store
from headwater_shared import ledger
from headwater_shared.aggregates import COLUMNS, of_readings
from headwater_shared.digest import reading_digests
from headwater_shared.ledger_writer import Ledger
from headwater_shared.parts import tumbling
from tests.bench.results import Result

DEVICES, METRICS, SAMPLES = 200, 5, 10_000
BEGIN_US = 1_800_000_000_000_000
_PIECE = 500
"""Samples of all devices in one write of the ledger."""
_UNSURE = 2_000
"""Messages whose acknowledgement never came; every other one is counted."""


def run(folder: Path) -> Iterator[Result]:
    """Audit the whole, as a process of its own; its peak memory is the kernel's word."""
    path, data = folder / "ledger", folder / "data"
    data.mkdir()
    readings = make(path, data)
    command = [sys.executable, "-m", "tests.bench.audit", str(path), str(data)]
    began = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    took = time.monotonic() - began
    found = json.loads(done.stdout.splitlines()[-1])
    assert f"acknowledged {readings - METRICS * _UNSURE}, " in done.stdout, done.stdout
    assert "lost 0, twice 0" in done.stdout, done.stdout
    began = time.monotonic()
    rows = ledger.records(path)
    np.lexsort((rows["time"], rows["metric"], rows["device"]))
    plain = time.monotonic() - began
    yield Result(
        "audit-10m",
        took,
        "s",
        plain,
        "numpy reads the ledger and sorts its records by series and time",
        "reads files only",
        {"readings": readings, "peak MB of RSS": found["mb"], "CPU s": found["cpu_s"]},
    )


def make(path: Path, data: Path) -> int:
    """Write a ledger in its real format, and both sides' files with what it must have become; return the readings."""
    book = Ledger(path)
    for device in range(DEVICES):
        book.device(f"site-{device % 4}", f"pump-{device:03d}")
    for metric in range(METRICS):
        book.metric(f"m{metric}")
    book.close()
    luck = np.random.default_rng(1)
    shape = DEVICES, METRICS
    value = np.round(50 + np.cumsum(luck.normal(0, 0.1, (SAMPLES, *shape)), axis=0), 2)
    at = np.arange(SAMPLES)[:, None] * 1_000_000 + luck.integers(0, 20_000, (SAMPLES, DEVICES)) + BEGIN_US
    lost = luck.choice(SAMPLES * DEVICES, _UNSURE, replace=False)
    acknowledged = np.ones(SAMPLES * DEVICES, np.bool_)
    acknowledged[lost] = False
    counted = np.ones(SAMPLES * DEVICES, np.bool_)
    counted[lost[::2]] = False
    with path.open("ab") as file:
        for first in range(0, SAMPLES, _PIECE):
            piece = slice(first, first + _PIECE)
            file.write(
                _records(first, at[piece], value[piece], acknowledged.reshape(SAMPLES, -1)[piece]).tobytes()
            )
    _stores(data, at, value, counted.reshape(SAMPLES, DEVICES))
    return SAMPLES * DEVICES * METRICS


def _records(
    first: int, at: NDArray[np.int64], value: NDArray[np.float64], acknowledged: NDArray[np.bool_]
) -> NDArray[Any]:
    samples = len(at)
    rows = np.zeros((samples, METRICS + 1, DEVICES), ledger.RECORD)
    rows["kind"][:, :METRICS] = ledger.READING
    rows["kind"][:, METRICS] = ledger.ACKNOWLEDGED
    rows["metric"][:, :METRICS] = np.arange(METRICS)[None, :, None]
    rows["device"] = np.arange(DEVICES)
    rows["message"] = first + np.arange(samples)[:, None, None]
    rows["time"][:, :METRICS] = at[:, None, :]
    rows["value"][:, :METRICS] = value.transpose(0, 2, 1)
    keep = np.ones((samples, METRICS + 1, DEVICES), np.bool_)
    keep[:, METRICS] = acknowledged
    flat = rows[keep]
    flat["flags"][-1] = ledger.WRITE_END
    return flat


def _stores(
    data: Path, at: NDArray[np.int64], value: NDArray[np.float64], counted: NDArray[np.bool_]
) -> None:
    connection, lock = open_store(data / "edge.db")
    connection.close()
    lock.release()
    store = Store(data / "cloud.db")
    run = store.connection.execute
    run("PRAGMA synchronous=OFF")  # it is made, not kept
    names = [f"site-{d % 4}/pump-{d:03d}/m{m}" for d in range(DEVICES) for m in range(METRICS)]
    with store.transaction() as connection:
        connection.executemany("INSERT INTO series VALUES (?, ?)", enumerate(names))
        connection.executemany("INSERT INTO level(id, name) VALUES (?, ?)", enumerate(LEVELS))
        run("INSERT INTO opener VALUES (0, 'bench', '0000000000000001')")
        for series in range(len(names)):
            device, metric = divmod(series, METRICS)
            kept = counted[:, device]
            times, values = at[kept, device], value[kept, device, metric]
            mine = Sent(
                np.full(len(times), series), times, values, reading_digests(times, values), np.ones(len(times), np.bool_)
            )  # fmt: skip
            for number, level in enumerate(LEVELS):
                _windows(connection, number, series, mine, tumbling(level).length_us)
    store.close()


def _windows(connection: Any, level: int, series: int, sent: Sent, length: int) -> None:
    first, start = windows_of(sent, length)
    rows = of_readings(first, sent.time, sent.value, sent.digest)
    columns: dict[str, Any] = {name: getattr(rows, name) for name in COLUMNS}
    columns["digest"] = columns["digest"].view(np.int64)
    same = {
        "level": level,
        "series": series,
        "opener": 0,
        "tick": 1,
        "parts": 1,
        "revision": 0,
        "flags": 0,
        "sketch": b"",
    }
    lists = [
        columns[name].tolist()
        if name in columns
        else start.tolist()
        if name == "start"
        else [same[name]] * len(first)
        for name in WINDOW_COLUMNS
    ]
    marks = ", ".join("?" * len(WINDOW_COLUMNS))
    connection.executemany(f"INSERT INTO window VALUES ({marks})", zip(*lists, strict=True))


if __name__ == "__main__":
    from headwater_appliance.audit import run_audit

    code = run_audit(Path(sys.argv[1]), Path(sys.argv[2]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"mb": used.ru_maxrss / 1024, "cpu_s": used.ru_utime + used.ru_stime}))
    sys.exit(code)
