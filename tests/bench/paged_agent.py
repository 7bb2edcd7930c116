"""The real agent with another page size of its file: `python -m tests.bench.paged_agent BYTES SETTINGS`."""

from __future__ import annotations

import sys
from typing import Any

from headwater_edge import process, store

if __name__ == "__main__":
    size = int(sys.argv[1])
    opened: Any = vars(store)["open_writer"]

    def paged(*args: Any, **more: Any) -> Any:
        return opened(*args, **(more | {"page_size": size}))

    vars(store)["open_writer"] = paged
    sys.exit(process.main(sys.argv[2:]))
