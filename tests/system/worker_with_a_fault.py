"""The real worker with a programming error: its operators break at every frame of the agent `poison` (`python -m`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from headwater_cloud import pipeline, process
from headwater_cloud.names import Names
from headwater_cloud.rows import PartRows
from headwater_shared.frame import Frame

_columns_of: Callable[[Iterable[Frame], Names], PartRows] = vars(pipeline)["columns_of"]


def _breaks(frames: Sequence[Frame], names: Names) -> PartRows:
    if any(frame.agent == "poison" for frame in frames):
        raise ZeroDivisionError("a programming error")
    return _columns_of(frames, names)


if __name__ == "__main__":
    vars(pipeline)["columns_of"] = _breaks
    sys.exit(process.main(sys.argv[1:]))
