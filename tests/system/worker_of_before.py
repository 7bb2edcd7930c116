"""The real worker as it was before what agents write now: it knows neither their frames nor anomalies of detectors (`python -m`)."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import NoReturn

from headwater_cloud import consume, process
from headwater_shared import records
from headwater_shared.avro import UnknownVersion
from headwater_shared.records import Anomaly


def _unknown(body: bytes) -> NoReturn:
    raise UnknownVersion(f"unknown schema fingerprint {body[2:10].hex()}, not one of frame-0")


if __name__ == "__main__":
    records._KINDS[Anomaly] = ("anomaly-1",)
    # Of agents only: what the second stages hand to each other is their own.
    setattr(consume, "frame", SimpleNamespace(decode=_unknown))  # noqa: B010 - it is a module there
    sys.exit(process.main(sys.argv[1:]))
