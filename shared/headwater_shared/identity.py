"""Names and numbers that identify: series, shards, epochs, ids of anomalies and alerts."""

from __future__ import annotations

import hashlib
import re
import secrets
from zlib import crc32

SHARDS = 64
"""For ever: the partitions of `hw-in` (R24)."""

_NAME = re.compile(r"[^/+#\x00-\x1f\x7f]{1,128}")


def valid_name(text: str) -> bool:
    """Tell whether a site, device or metric may be called so: 1 to 128 characters, no `/`, `+`, `#` or control."""
    return _NAME.fullmatch(text) is not None


def series_name(site: str, device: str, metric: str) -> str:
    return f"{site}/{device}/{metric}"


def site_of(series: str) -> str:
    return series.partition("/")[0]


def device_of(series: str) -> str:
    """Return `site/device`, the subject that owns a watermark."""
    return series.rpartition("/")[0]


ALL = "+"
"""In the place of a site or device: all of them. No site or device is called so."""


def is_rollup(series: str) -> bool:
    """Tell whether a series is of several devices: `site/+/metric`, `+/+/metric`, of a cohort `site/+cohort/metric`."""
    return series.partition("/")[2].startswith(ALL)


def shard_of(site: str) -> int:
    """Return the shard of a site, which is also the partition's number in `hw-in` (R24)."""
    return crc32(site.encode()) % SHARDS


def agent_partition(agent: str, partitions: int) -> int:
    """Return the partition of `hw-have` and `hw-commands` that an agent reads."""
    return crc32(agent.encode()) % partitions


def agent_shard(agent: str) -> int:
    """Return the shard where an agent itself is decided on, and that its status frames go to."""
    return crc32(f"agent:{agent}".encode()) % SHARDS


def new_epoch() -> int:
    """Draw the 64 random bits of an agent's start; compared for equality only (R6)."""
    return secrets.randbits(64)


def stable_id(*words: str | int) -> str:
    """Hash words to an id of 32 hex digits that is the same in every process, region and rerun (R14, R26)."""
    text = "\x1f".join(str(word) for word in words)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
