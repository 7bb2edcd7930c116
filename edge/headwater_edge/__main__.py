"""`python -m headwater_edge [SETTINGS]`: the agent's process, without the command line's libraries."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

_ARENAS, _MMAP_FROM = -8, -3  # M_ARENA_MAX, M_MMAP_THRESHOLD of mallopt(3)

if __name__ == "__main__":
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy would start a thread a core, each with its memory
    with suppress(
        OSError, AttributeError
    ):  # one heap for all threads: they allocate little beside the loop's
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENAS, 1)
        libc.mallopt(
            _MMAP_FROM, 128 * 1024
        )  # fixed: large columns go back to the system when they are let go
    from headwater_edge.process import main

    sys.exit(main(sys.argv[1:]))
