"""`python -m headwater_edge [SETTINGS]`: the agent's process, without the command line's libraries."""

from __future__ import annotations

import sys

from headwater_edge.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
