"""The real agent on a real log, of which one append never returns, as on a share whose server hangs (`python -m`).

The first process that finds no file `stalled` beside its settings makes it, and hangs; the next one runs as ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from headwater_edge import process
from headwater_shared.bus import Record
from headwater_shared.sqlite_log import SqliteLog

_append = SqliteLog.append
_mark = Path(sys.argv[1]).with_name("stalled")


def _hangs(log: SqliteLog, records: Sequence[Record]) -> None:
    if not _mark.exists():
        _mark.touch()
        threading.Event().wait()
    _append(log, records)


if __name__ == "__main__":
    SqliteLog.append = _hangs  # type: ignore[method-assign, assignment]
    sys.exit(process.main(sys.argv[1:]))
