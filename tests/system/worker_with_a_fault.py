"""The real worker with a programming error: its operators break at every frame of the agent `poison` (`python -m`)."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from headwater_cloud import pipeline, process, rows
from headwater_cloud.names import Names
from headwater_cloud.rows import PartRows
from headwater_shared.frame import Frame


def _breaks(frames: Iterable[Frame], names: Names) -> PartRows:
    frames = list(frames)
    if any(frame.agent == "poison" for frame in frames):
        raise ZeroDivisionError("a programming error")
    return rows.columns_of(frames, names)


if __name__ == "__main__":
    setattr(pipeline, "columns_of", _breaks)  # noqa: B010 - it is another module's name there
    sys.exit(process.main(sys.argv[1:]))
