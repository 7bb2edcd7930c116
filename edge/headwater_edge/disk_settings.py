"""The settings of the agent's disk: how much it may take, and how much it leaves to others."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Section, Size, size

LEAST = 24_000_000
"""A new file with its write-ahead log, its ballast and a snapshot needs half of it."""


class DiskSettings(Section, frozen=True, forbid_unknown_fields=True):
    """What the agent may take of the disk of its data folder."""

    quota: Annotated[
        Size,
        Meta(
            description="Bytes of the agent's file, with its write-ahead log, its ballast and the next snapshot. When they are taken the "
            "agent holds back: it acknowledges nothing until the cloud side has what waits."
        ),
    ] = "1GB"
    free: Annotated[
        Size, Meta(description="Free space that is left to others; below it the agent holds back.")
    ] = "200MB"
    coalesce: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1.0,
            description="Share of the quota from which on the agent makes room: fine windows that nobody was given are let go where a "
            "coarser one holds the same readings, the oldest first, and the dedupe horizon shrinks.",
        ),
    ] = 0.75


class DiskLimits(NamedTuple):
    """The settings in bytes."""

    quota: int
    free: int
    high: int


def disk_limits(settings: DiskSettings) -> DiskLimits:
    """Resolve and check the settings.

    Raises:
        SettingsError: a quota below what an agent needs to begin with.
    """
    quota = size(settings.quota)
    if quota < LEAST:
        raise SettingsError(
            f"edge.disk.quota = {settings.quota!r} is too little",
            hint=f"an agent needs {LEAST // 1_000_000}MB to begin with",
        )
    return DiskLimits(quota, size(settings.free), int(quota * settings.coalesce))
