"""The real agent, whose drain sends a few rows at a time: a backlog outlasts many kills (`python -m`)."""

from __future__ import annotations

import sys

from headwater_edge import outbox, process

if __name__ == "__main__":
    outbox.BATCH = 8
    sys.exit(process.main(sys.argv[1:]))
