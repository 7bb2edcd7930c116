"""An agent's file on a desk: read in place, or in a copy, but never written to."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headwater_edge.detection.onnx_kept import MODELS
from headwater_edge.store import APPLICATION, VERSION
from headwater_shared.errors import StateError
from headwater_shared.sqlite_file import check, read_only, read_without_log

_BESIDE = "-wal"


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Give a copy of a file and its log, in a folder of its own that is gone afterwards (TMPDIR says where).

    Raises:
        StateError: there is no such file, or an agent has it open.
    """
    _there(path)
    if in_use(path):
        raise StateError(f"{path} is in use", hint="stop the agent that has it")
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        copy = Path(folder) / path.name
        for suffix in ("", _BESIDE):
            one = path.with_name(path.name + suffix)
            if one.exists():
                shutil.copyfile(one, copy.with_name(copy.name + suffix))
        yield copy


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file for reading as it is: beside its agent, or without anybody; with a log, in a copy.

    Raises:
        StateError: there is no such file, or it is no agent's.
        StateNewer: a newer version wrote it.
        sqlite3.DatabaseError: it is damaged.
    """
    _there(path)
    log = path.with_name(path.name + _BESIDE)
    if in_use(path):
        with closing(read_only(path)) as connection:
            yield _checked(connection, path)
    elif not log.exists() or not log.stat().st_size:
        with closing(read_without_log(path)) as connection:
            yield _checked(connection, path)
    else:
        with copied(path) as copy, closing(read_only(copy)) as connection:
            yield _checked(connection, path)


def in_use(path: Path) -> bool:
    """Tell whether a process has a file open for writing: it holds the lock beside it."""
    try:
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    check(connection, path, APPLICATION, VERSION)
    return connection


def _there(path: Path) -> None:
    if not path.is_file():
        raise StateError(
            f"there is no file {path}",
            hint="name the agent's file, edge.db in its data folder, or a copy of it",
        )
    MODELS.look_beside(path)
