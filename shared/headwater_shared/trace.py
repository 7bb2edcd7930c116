"""The W3C trace context of records: a header `traceparent`, made of the identity once, and handed on unchanged.

https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags. Nothing of Headwater is a span yet, so whoever hands a
record on leaves it as it is, as the standard wants of those who take no part.
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
