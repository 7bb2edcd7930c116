"""Does a part answer? Its health is asked for again and again; one that says nothing for too long is of no use any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

_LOOKS = 6
"""In the time after which a part is given up."""
_STARTS = 10
"""A start may take so many times as long: a journal is run again, a damaged file is salvaged."""
_ASK_S, _SOON_S = 5.0, 0.5
"""Seconds between two looks at most; and until the first answer, for who waits until all is ready."""


class Answers:
    """Of one part: where it says on which port it answers, and how long it may be silent."""

    def __init__(self, place: Path, host: str, limit_s: float) -> None:
        self._place, self._host, self.limit_s = place, host, limit_s

    async def silent(self, pid: int, heard: Callable[[], None]) -> str:
        """Return once the process has been silent for too long, and say how it was; `heard` is called at each answer."""
        began = last = time.monotonic()
        answered = False
        while True:
            await asyncio.sleep(min(self.limit_s / _LOOKS, _ASK_S if answered else _SOON_S))
            said = await self._ask(pid)
            now = time.monotonic()
            if said is not None and said.get("last_turn_s", 0.0) < self.limit_s:
                answered, last = True, now
                heard()
            elif answered and now - last >= self.limit_s:
                if said is not None:
                    return f"its loop stands still for {said['last_turn_s']:.0f} s"
                return f"it has not answered its health for {now - last:.0f} s"
            elif not answered and now - began >= self.limit_s * _STARTS:
                return f"it has not answered its health since its start, {now - began:.0f} s ago"

    async def _ask(self, pid: int) -> dict[str, Any] | None:
        """Return what the part says of itself; None if it does not answer. That it is ill is an answer."""
        try:
            place = msgspec.json.decode(self._place.read_bytes(), type=dict[str, Any])
            if place.get("pid") != pid:
                return None  # it is not ready; that file is of the one before
            async with asyncio.timeout(min(self.limit_s, _ASK_S)):
                reader, writer = await asyncio.open_connection(self._host, place["health"])
                try:
                    writer.write(b"GET /health HTTP/1.0\r\n\r\n")
                    body = (await reader.read(-1)).partition(b"\r\n\r\n")[2]
                finally:
                    writer.close()
                    with suppress(OSError):
                        await writer.wait_closed()
            return msgspec.json.decode(body, type=dict[str, Any])
        except (OSError, TimeoutError, msgspec.DecodeError, KeyError):
            return None
