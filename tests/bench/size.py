"""`edge-memory`, `edge-idle`, `edge-start`, `edge-disk-bytes`: what an agent weighs, at 1,000 series and 1,000 readings/s."""

from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.agents import Process, agent
from tests.bench.listener import load
from tests.bench.results import Result
from tests.support import until

_BARE = "import sys, msgspec, numpy; print(0, flush=True); sys.stdin.read()"
_SECONDS = 130.0
_IDLE_S = 20.0
_TICKS_OF_A_SECOND = 'tick = "1s"'
_ON_TMPFS = "/dev/shm/headwater-bench-log.db"  # noqa: S108 - a tmpfs is what is wanted
_FULL = "SQLite WAL, synchronous=FULL"


def memory_and_disk(folder: Path) -> Iterator[Result]:
    """Let 1,000 series send at 1 Hz for two minutes, so that base windows, minutes and the held panes are all there."""
    # The bus lies on a tmpfs: its pages are the log's, not the agent's, and are measured by themselves below.
    with agent(folder / "agent", _TICKS_OF_A_SECOND, bus=_ON_TMPFS) as ours:
        watch = _WalWatch(ours.folder / "edge.db-shm")
        before = ours.written_bytes()
        load(ours.port, 20, 1_000, _SECONDS)
        written, rss = ours.written_bytes() - before, ours.rss_mb()
        wal = watch.stop()
        split = _stored(ours.folder / "edge.db")
        yield from _idle(ours)
    _unlink(_ON_TMPFS)
    readings = 1_000 * _SECONDS
    bare = _bare_memory()
    yield Result(
        "edge-memory", rss, "MB of RSS", bare, "a bare interpreter that has imported numpy and msgspec", _FULL,
        {"series": 1000, "after s": _SECONDS},
    )  # fmt: skip
    with agent(folder / "with-bus", _TICKS_OF_A_SECOND) as ours:
        before = ours.written_bytes()
        load(ours.port, 20, 1_000, 60)
        with_bus = (ours.written_bytes() - before) / 60_000
    split = {f"{name} B": size / readings for name, size in split.items()}
    yield Result(
        "edge-disk-bytes",
        written / readings,
        "bytes written to disk a reading",
        _plain_bytes(folder / "plain"),
        "a plain program that writes each reading as a row (topic, time, value), one commit a second, full sync",
        _FULL,
        {
            "of these to the WAL": wal / readings,
            "of these by checkpoints and rounding up to blocks": (written - wal) / readings,
            **split,
            "with the bus (SQLite log) on the same disk": with_bus,
        },
    )


def _idle(ours: Process) -> Iterator[Result]:
    until(lambda: _settled(ours.folder / "edge.db"), 60, "the last windows are closed by the passing of time")
    figure = _cpu_share(ours.pid)
    with subprocess.Popen(
        [sys.executable, "-c", "import asyncio; asyncio.run(asyncio.Event().wait())"]
    ) as bare:
        baseline = _cpu_share(bare.pid)
        bare.terminate()
    yield Result(
        "edge-idle",
        figure,
        "% of a core",
        baseline,
        "an asyncio process that sleeps",
        _FULL,
        {"over s": _IDLE_S},
    )


def _settled(file: Path) -> bool:
    """Tell whether no tick was committed for some seconds: an idle agent has none."""
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        last = reader.execute("SELECT max(tick) FROM journal").fetchone()[0]
        pause = threading.Event()
        pause.wait(3)
        return bool(last == reader.execute("SELECT max(tick) FROM journal").fetchone()[0])
    finally:
        reader.close()


def _cpu_share(pid: int) -> float:
    process = Process(pid, 0, Path())
    began, before = time.monotonic(), process.cpu_s()
    threading.Event().wait(_IDLE_S)
    return (process.cpu_s() - before) / (time.monotonic() - began) * 100


def start(folder: Path) -> Iterator[Result]:
    """From the start of the process to the listener's port, with a new file; of seven the middle one."""
    took = []
    for at in range(7):
        began = time.monotonic()
        with agent(folder / str(at)):
            took.append(time.monotonic() - began)
    bare = []
    for _ in range(7):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import msgspec, numpy, structlog"], check=True)
        bare.append(time.monotonic() - began)
    yield Result(
        "edge-start", sorted(took)[3], "s", sorted(bare)[3], "an interpreter that imports numpy, msgspec and structlog",
        _FULL, {"of seven": sorted(took)},
    )  # fmt: skip


class _WalWatch:
    """Adds up the frames that go into a WAL, from the counter in its shared memory, which begins anew at a reset."""

    def __init__(self, shm: Path) -> None:
        self._shm = shm
        self._frames = 0
        self._last = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> int:
        """Return the bytes: a frame is a page of 1,024 and a header of 24."""
        self._over.set()
        self._thread.join()
        return self._frames * (1024 + 24)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            now = self._now()
            self._frames += now - self._last if now >= self._last else now
            self._last = now

    def _now(self) -> int:
        with self._shm.open("rb") as file:
            header = file.read(48)
        return int(struct.unpack_from("=I", header, 16)[0]) if len(header) == 48 else 0


def _stored(file: Path) -> dict[str, Any]:
    """Return the bytes of bodies by table: what the pages are filled with."""
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    sums = {
        name: reader.execute(f"SELECT coalesce(sum(length(body)), 0) FROM {name}").fetchone()[0]
        for name in ("journal", "outbox", "snapshot")
    }
    reader.close()
    return sums


def _bare_memory() -> float:
    with subprocess.Popen(
        [sys.executable, "-c", _BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        found = Process(bare.pid, 0, Path()).rss_mb()
        bare.terminate()
    return found


def _plain_bytes(folder: Path) -> float:
    folder.mkdir()
    before = _own_written()
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE reading(topic TEXT, time INTEGER, value REAL)")
    for second in range(60):
        rows = [
            (f"hw/site-{i % 4}/dev-{i // 5:03d}/data/m{i % 5}", second * 1_000_000 + i, i * 0.01)
            for i in range(1000)
        ]
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO reading VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    connection.close()
    return (_own_written() - before) / 60_000


def _own_written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def _unlink(name: str) -> None:
    for path in Path(name).parent.glob(Path(name).name + "*"):
        path.unlink()
