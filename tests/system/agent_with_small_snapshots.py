"""The real agent, which takes a snapshot after a fraction of the work: a short test sees many (`python -m`)."""

from __future__ import annotations

import sys

from headwater_edge import pipeline, process

if __name__ == "__main__":
    pipeline._REPLAY_US = 30_000
    pipeline._LEAST = 30_000
    sys.exit(process.main(sys.argv[1:]))
