"""The real worker as it was before records of detectors: it knows no `anomaly-2` (`python -m`)."""

from __future__ import annotations

import sys

from headwater_cloud import process
from headwater_shared import records
from headwater_shared.records import Anomaly

if __name__ == "__main__":
    records._KINDS[Anomaly] = ("anomaly-1",)
    sys.exit(process.main(sys.argv[1:]))
