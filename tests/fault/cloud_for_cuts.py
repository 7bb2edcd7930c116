"""The real cloud side, which lets go all the time of what it has read, and gives the space back (`python -m`)."""

from __future__ import annotations

import sys

from headwater_cloud import process
from headwater_shared.sqlite_log import wall_us

_LATER_US = 100 * 86_400_000_000
"""So much later it is for retention: nothing that was read is young."""

if __name__ == "__main__":
    process._PRUNE_S = 0.3
    process.__dict__["wall_us"] = lambda: wall_us() + _LATER_US
    sys.exit(process.main(sys.argv[1:]))
