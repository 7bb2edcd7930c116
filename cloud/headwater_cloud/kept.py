"""What an engine keeps of windows, as the operators ask for it: tables (`lookup`), or pieces of state (`held`)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.merge import Windows
from headwater_cloud.rows import PartRows

Ints = NDArray[np.int64]


class Found(NamedTuple):
    """What is stored of the windows that some parts belong to."""

    parts: PartRows
    """First `inside` rows that stand in the window itself, then those of windows with several parts."""
    inside: int
    gone: NDArray[np.bool_]
    """Of the parts asked for: those of a window that is deleted, or whose parts are no longer kept (R28)."""


class Kept(Protocol):
    """All that was kept before the batch."""

    def parts_of(self, arrived: PartRows) -> Found:
        """Find the stored parts of all windows that `arrived` touches; those of others do no harm."""

    def windows_at(self, shards: Ints, levels: Ints, starts: Ints) -> Windows:
        """Find all windows that shards have of some levels and starts; shape (n,) each.

        Returns:
            The windows, in no order but that of several rows of one window the latest is the last.
        """
