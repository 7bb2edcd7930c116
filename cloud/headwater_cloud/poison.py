"""A record that breaks the operators: what is its fault and what is not, and what is said of it.

A runner that meets one goes back to what is committed and takes records one by one; the culprit becomes a dead letter
`poison` with its bytes, which takes its seq, so that its agent goes on.
"""

from __future__ import annotations

import sqlite3

from headwater_shared.bus import Stored
from headwater_shared.errors import HeadwaterError
from headwater_shared.logs import get_logger

log = get_logger()

NOT_OF_A_RECORD = (HeadwaterError, sqlite3.Error, MemoryError, OSError)
"""What ends a step, or the process: the same record may be fine the next time."""


def text_of(error: Exception) -> str:
    """Say an error in a line."""
    return f"{type(error).__name__}: {error}"


def note(error: Exception, stored: Stored) -> None:
    """Log, with the trace, that a record breaks the operators."""
    log.error(
        "a record breaks the operators: it becomes a dead letter",
        topic=stored.topic, partition=stored.partition, offset=stored.offset, exc_info=error,
    )  # fmt: skip
