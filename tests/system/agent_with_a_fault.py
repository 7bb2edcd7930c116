"""The real agent with a programming error: decoding the payload `trip` raises what nobody expects (`python -m`)."""

from __future__ import annotations

import sys

from headwater_edge import process
from headwater_edge.decode import Decode, Decoded
from headwater_edge.source import Burst

_burst = Decode.burst


def _trips(decode: Decode, burst: Burst) -> Decoded:
    if b"trip" in burst.payloads:
        raise ZeroDivisionError("a programming error")
    return _burst(decode, burst)


if __name__ == "__main__":
    Decode.burst = _trips  # type: ignore[method-assign, assignment]
    sys.exit(process.main(sys.argv[1:]))
