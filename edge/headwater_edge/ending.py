"""Ends a task for good: a library may turn the cancellation into an error of its own, and what tries again would go on."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.5


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended; what it raised is nobody's any more."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
    if not task.cancelled():
        task.exception()
