"""The real agent, which does not sync: what it acknowledged a power cut may take. The negative control of the power cuts (`python -m`)."""

from __future__ import annotations

import sys
from pathlib import Path
from sqlite3 import Connection

from headwater_edge import keeping, process, store
from headwater_shared import sqlite_file


def _without_sync(path: Path, *, application: str, schema: tuple[str, ...], page_size: int) -> Connection:
    connection = sqlite_file.open_writer(path, application=application, schema=schema, page_size=page_size)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


if __name__ == "__main__":
    keeping._REPLAY_US = 30_000
    keeping._LEAST = 30_000
    store.open_writer = _without_sync  # type: ignore[assignment]
    sys.exit(process.main(sys.argv[1:]))
