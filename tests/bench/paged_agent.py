"""The real agent with another page size of its file: `python -m tests.bench.paged_agent BYTES SETTINGS`."""

from __future__ import annotations

import sys
from functools import partial

from headwater_edge import process, store

if __name__ == "__main__":
    size = int(sys.argv[1])
    opened = store.open_writer

    def paged(*args: object, **more: object) -> object:
        return opened(*args, **(more | {"page_size": size}))  # type: ignore[arg-type]

    store.open_writer = partial(paged)  # type: ignore[assignment]
    sys.exit(process.main(sys.argv[2:]))
