"""`python -m headwater_cloud [SETTINGS]`: the cloud side's process, without the command line's libraries."""

from __future__ import annotations

import sys

from headwater_cloud.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
