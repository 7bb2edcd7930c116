"""`edge-disk-pages`: where the bytes written go, by table and by page size, at 1,000 series and 1,000 readings/s."""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.bench.agents import agent
from tests.bench.listener import load
from tests.bench.results import Result

SIZES = (512, 1024, 2048, 4096)
_SECONDS = 100.0
_ON_TMPFS = "/dev/shm/headwater-bench-pages.db"  # noqa: S108 - a tmpfs is what is wanted
_FRAME = 24


def run(folder: Path) -> Iterator[Result]:
    """The same load for each page size; whose pages go through the write-ahead log is read from its frames."""
    found: dict[int, dict[str, float]] = {}
    for size in SIZES:
        module = ("tests.bench.paged_agent", str(size))
        with agent(folder / str(size), 'tick = "1s"', bus=_ON_TMPFS, module=module) as ours:
            file = ours.folder / "edge.db"
            tap = _WalTap(ours.folder / "edge.db-wal", size)
            before = ours.written_bytes()
            load(ours.port, 20, 1_000, _SECONDS)
            written = ours.written_bytes() - before
            pages = tap.stop()
            found[size] = _shares(file, pages, size, written, 1_000 * _SECONDS)
        for path in Path(_ON_TMPFS).parent.glob(Path(_ON_TMPFS).name + "*"):
            path.unlink()
    best = min(found, key=lambda size: found[size]["all"])
    yield Result(
        "edge-disk-pages",
        found[best]["all"],
        f"bytes written to disk a reading, at pages of {best}",
        found[4096]["all"],
        "SQLite's own page size, 4096",
        "SQLite WAL, synchronous=FULL",
        {f"pages of {size}": shares for size, shares in found.items()},
    )


class _WalTap:
    """Counts the frames of a write-ahead log by page, as they are written; begins anew when the log does."""

    def __init__(self, wal: Path, size: int) -> None:
        self._wal, self._size = wal, size
        self._pages: Counter[int] = Counter()
        self._salts, self._at = b"", 32
        self._look()
        self._pages.clear()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> Counter[int]:
        """Return how often each page was written."""
        self._over.set()
        self._thread.join()
        self._look()
        return self._pages

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self._look()

    def _look(self) -> None:
        with self._wal.open("rb") as file:
            salts = file.read(32)[16:24]
            if salts != self._salts:
                self._salts, self._at = salts, 32
            while True:
                file.seek(self._at)
                header = file.read(_FRAME)
                if len(header) < _FRAME or header[8:16] != self._salts:
                    return
                self._pages[struct.unpack_from(">I", header)[0]] += 1
                self._at += _FRAME + self._size


def _shares(file: Path, pages: Counter[int], size: int, written: int, readings: float) -> dict[str, float]:
    """Return bytes a reading: all, what of it is the log's, whose pages these are, and what the bodies would need alone."""
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    names = dict(reader.execute("SELECT pageno, name FROM dbstat").fetchall())
    bodies = {
        name: reader.execute(f"SELECT coalesce(sum(length(body)), 0) FROM {name}").fetchone()[0]
        for name in ("journal", "outbox", "snapshot", "arrival")
    }
    reader.close()
    by_table: Counter[str] = Counter()
    for page, count in pages.items():
        by_table[names.get(page, "free pages and the pointer map")] += count * (size + _FRAME)
    wal = sum(by_table.values())
    shares = {"all": written, "WAL": wal, "checkpoints and rounding up to blocks": written - wal}
    shares |= {f"WAL: {name}": count for name, count in by_table.most_common(8)}
    shares |= {f"bodies: {name}": count for name, count in bodies.items()}
    return {name: round(count / readings, 3) for name, count in shares.items()}
