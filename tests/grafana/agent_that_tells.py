"""The real agent, which tells the cloud of itself twice a second instead of twice a minute: the story lasts seconds (`python -m`)."""

from __future__ import annotations

import sys

from headwater_edge import process, statuses

if __name__ == "__main__":
    statuses.EVERY_S = statuses.CHANGED_S = 0.5
    sys.exit(process.main(sys.argv[1:]))
