"""Who waits for the commit of a tick: of the one that gathers, or of the one under way."""

from __future__ import annotations

import asyncio
from typing import Any


class Awaited:
    """Futures of ticks; made on the agent's loop. `failed` is the agent's end."""

    def __init__(self) -> None:
        self._gathers: list[asyncio.Future[int]] = []
        self._under_way: list[asyncio.Future[int]] = []

    def of_next(self) -> asyncio.Future[int]:
        """Return what the tick that gathers will be."""
        self._gathers.append(asyncio.get_running_loop().create_future())
        return self._gathers[-1]

    def of_this(self) -> asyncio.Future[int]:
        """Return what the tick under way is."""
        self._under_way.append(asyncio.get_running_loop().create_future())
        return self._under_way[-1]

    def ended(self) -> None:
        """The tick that gathered is under way."""
        self._under_way += self._gathers
        self._gathers = []

    def committed(self, tick: int) -> None:
        """The one under way is in the file."""
        done, self._under_way = self._under_way, []
        for future in done:
            if not future.done():
                future.set_result(tick)


async def result(
    done: asyncio.Future[int], failed: asyncio.Future[None], timeout_s: float | None = None
) -> int:
    """Wait for a tick, or for the end of the agent; -1 if neither came in time."""
    both: set[asyncio.Future[Any]] = {done, failed}
    await asyncio.wait(both, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        failed.result()
    return done.result() if done.done() else -1
