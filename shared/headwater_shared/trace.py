"""The W3C trace context of records: a header `traceparent`, made of the identity once, and handed on unchanged.

https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags. The parent in the header of an agent's row is the span in
which it is forwarded; all other spans have ids that follow from the trace's (`child`), whether anybody looks at them or not (`tracing`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

HEADER = "traceparent"

# A later version may have more behind the flags; ff is none; ids of zeros alone are invalid.
_VALID = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.{1,256})?", re.ASCII
)


def traceparent(identity: str) -> str:
    """Make the trace of a record out of its identity: the same in every rerun (R14), without a random source. Sampled."""
    found = hashlib.blake2b(identity.encode(), digest_size=24, person=b"headwater-trace").hexdigest()
    return f"00-{found[:32]}-{found[32:]}-01"


def of(headers: Mapping[str, str]) -> str:
    """Return the trace that headers name; empty: none, or one that breaks the grammar and must not be handed on."""
    found = headers.get(HEADER, "")
    valid = _VALID.fullmatch(found) and (len(found) == 55 or not found.startswith("00"))
    return found if valid else ""


def child(traceparent: str, name: str) -> str:
    """Return the context of a span of the same trace: its id is a hash of trace and name, so whoever makes it again makes the same."""
    version, trace_id, _, *rest = traceparent.split("-")
    found = hashlib.blake2b(
        f"{trace_id}/{name}".encode(), digest_size=8, person=b"headwater-span"
    ).hexdigest()
    return "-".join((version, trace_id, found, *rest))


def trace_of(traceparent: str) -> str:
    """Return the id of the trace, 32 hex digits, as it stands in the logs; "" of none."""
    return traceparent[3:35]


def span_of(traceparent: str) -> str:
    """Return the id of the span, 16 hex digits; "" of none."""
    return traceparent[36:52]
