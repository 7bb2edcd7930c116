"""`python -m headwater_edge [SETTINGS]`: the agent's process, without the command line's libraries."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

_ARENAS = -8  # M_ARENA_MAX of mallopt(3)

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start a thread a core, each with its memory
    with suppress(OSError, AttributeError):  # one heap for all threads: they allocate little beside the loop's
        ctypes.CDLL(None).mallopt(_ARENAS, 1)
    from headwater_edge.process import main

    sys.exit(main(sys.argv[1:]))
