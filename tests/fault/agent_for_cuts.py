"""The real agent, which takes snapshots, drops old rows and checkpoints its WAL all the time, so that a short test cuts into all of
that (`python -m`); with `HEADWATER_TEST_SYNC=OFF` one that does not sync: what it acknowledged a power cut may take.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from sqlite3 import Connection

from headwater_edge import keeping, opening, outbox, process, state, store

SYNC = "HEADWATER_TEST_SYNC"
CHECKPOINT = "HEADWATER_TEST_CHECKPOINT"
"""Pages of WAL from which on a commit checkpoints; 0: never."""
BATCH = "HEADWATER_TEST_BATCH"
"""Rows that go to the bus at once."""

_open = store.write_store


def _opened(path: Path) -> Connection:
    connection = _open(path)
    connection.execute(f"PRAGMA wal_autocheckpoint={os.environ.get(CHECKPOINT, '200')}")
    if SYNC in os.environ:
        connection.execute(f"PRAGMA synchronous={os.environ[SYNC]}")
    return connection


if __name__ == "__main__":
    keeping._REPLAY_US = 30_000
    keeping._LEAST = 30_000
    state._SOONEST_US = 500_000
    outbox.BATCH = int(os.environ.get(BATCH, "64"))
    opening.__dict__["write_store"] = _opened
    sys.exit(process.main(sys.argv[1:]))
