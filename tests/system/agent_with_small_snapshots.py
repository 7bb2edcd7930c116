"""The real agent, which takes a snapshot after a fraction of the work: a short test sees many (`python -m`)."""

from __future__ import annotations

import sys

from headwater_edge import keeping, process

if __name__ == "__main__":
    keeping._REPLAY_US = 30_000
    keeping._LEAST = 30_000
    sys.exit(process.main(sys.argv[1:]))
