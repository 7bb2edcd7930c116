"""One way for local alerts: what waits for it, in order, and how it is sent again until it is delivered or given up.

Everything here is on the event loop, and beside ticks and acknowledgements: a way that hangs holds up only itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from headwater_edge.alert_settings import AlertSettings
from headwater_edge.ending import end
from headwater_shared.errors import Refused
from headwater_shared.logs import get_logger
from headwater_shared.settings import duration

log = get_logger()

_SAY_AGAIN_S = 60.0


class Letter(msgspec.Struct, frozen=True):
    """An alert on its way: `key` is that of its words; `kept` if it is in the agent's file until it is delivered."""

    key: str
    topic: str
    body: bytes
    kept: bool = True


Send = Callable[[Letter], Awaitable[None]]
"""Deliver a letter.

Raises:
    TryAgain: not now.
    Refused: never, this one; others may go.
"""


class Route:
    """One `[[edge.alert]]`: its queue, and the task that empties it.

    Args:
        forget: is told the keys of letters that need not be kept any more.
    """

    def __init__(self, settings: AlertSettings, send: Send, forget: Callable[[str], None]) -> None:
        self.settings = settings
        self._send = send
        self._forget = forget
        self._waiting: dict[str, tuple[Letter, float]] = {}
        """By key, each with the monotonic time at which it is given up; oldest first."""
        self._put = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._said = -_SAY_AGAIN_S
        self.sent = self.dropped = self.refused = self.failures = 0
        self.failing = ""
        """Why the last try failed; empty once one went well."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"alerts {self.settings.name}")

    async def close(self) -> None:
        """Stop; what waits is in the agent's file, and goes out after the next start."""
        if self._task is not None:
            task, self._task = self._task, None
            await end(task)

    def put(self, letter: Letter) -> None:
        """Take an alert; never waits. Beyond the queue's length the oldest is dropped."""
        self._waiting.pop(letter.key, None)
        self._waiting[letter.key] = (letter, time.monotonic() + duration(self.settings.give_up) / 1e6)
        while len(self._waiting) > self.settings.queue:
            self._drop(next(iter(self._waiting)), "the queue is full")
        self._put.set()

    async def try_out(self, letter: Letter) -> None:
        """Send a letter beside the queue, once, whatever waits there.

        Raises:
            TryAgain, Refused: why it was not delivered.
        """
        await self._send(letter)

    async def _run(self) -> None:
        wait_s = first_s = duration(self.settings.retry) / 1e6
        while True:
            while not self._waiting:
                self._put.clear()
                await self._put.wait()
            letter, until = next(iter(self._waiting.values()))
            if time.monotonic() > until:
                self._drop(letter.key, f"not delivered for {self.settings.give_up}")
                continue
            try:
                await self._send(letter)
            except Refused as error:
                self.refused += 1
                log.error("an alert was refused", alert=self.settings.name, key=letter.key, error=error)
                self._done(letter)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others wait behind it: it is tried again
                self.failures += 1
                if not self.failing:
                    log.warning(
                        "an alert cannot be delivered; it is tried again", alert=self.settings.name, error=error,
                        waiting=len(self._waiting),
                    )  # fmt: skip
                self.failing = getattr(error, "message", "") or str(error) or type(error).__name__
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, duration(self.settings.retry_most) / 1e6)
            else:
                if self.failing:
                    log.info("alerts are delivered again", alert=self.settings.name)
                self.failing, wait_s = "", first_s
                self.sent += 1
                self._done(letter)

    def _done(self, letter: Letter) -> None:
        there = self._waiting.get(letter.key)
        if there is not None and there[0] is letter:  # else another came in its place meanwhile
            del self._waiting[letter.key]
            if letter.kept:
                self._forget(letter.key)

    def _drop(self, key: str, why: str) -> None:
        letter, _ = self._waiting.pop(key)
        if letter.kept:
            self._forget(key)
        self.dropped += 1
        now = time.monotonic()
        if now - self._said >= _SAY_AGAIN_S:
            self._said = now
            log.error(
                "alerts are dropped", alert=self.settings.name, why=why, dropped=self.dropped, key=key,
                hint="see what keeps them from being delivered, or raise queue or give_up of this [[edge.alert]]",
            )  # fmt: skip
