"""Egress: what a tick put out goes to other programs of the site, live; nothing waits for it, and it waits only so long.

It is no promise: what a broker that is away does not take is dropped beyond the queue, and counted; history is the cloud
side's. Device status and what is announced are retained, and said again after each connect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from headwater_edge.egress_settings import EgressSettings
from headwater_edge.egress_words import Message, messages_of
from headwater_edge.ending import end
from headwater_edge.home_assistant import Announced
from headwater_edge.outlet import Outlet
from headwater_edge.output import Output
from headwater_shared.errors import TryAgain
from headwater_shared.logs import get_logger

log = get_logger()

Show = Callable[[str, bytes], int]
_AGAIN_S = 1.0


class Egress:
    """All of it, on the event loop.

    Args:
        show: sends to those who subscribed at the listener, and tells how many they were.
        outlet: the broker's, if it goes there too.
        announced: what is announced to Home Assistant, if anything.
    """

    def __init__(
        self,
        settings: EgressSettings,
        agent: str,
        show: Show,
        outlet: Outlet | None,
        announced: Announced | None,
    ) -> None:
        self._settings = settings
        self._agent = agent
        self._show = show
        self._outlet = outlet
        self._announced = announced
        self._queue: deque[Message] = deque()
        self._status: dict[str, Message] = {}
        """The latest status of each device that was said since the start: said again after each connect."""
        self._put = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.shown = self.published = self.dropped = 0
        if outlet is not None:
            outlet.on_connect.append(self._connected)

    def start(self) -> None:
        if self._outlet is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._outlet), name="egress")

    async def close(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            await end(task)

    def committed(self, output: Output) -> None:
        """A tick is on disk: tell of it. Never waits."""
        for message in messages_of(self._settings, output, self._agent):
            self.shown += self._show(message.topic, message.payload)
            if self._outlet is None:
                continue
            if message.kind == "status":
                self._status[message.about] = message
            if self._announced is not None:
                for config in self._announced.fresh(message):
                    self._enqueue(config)
            self._enqueue(message)
        if output.evicted and self._announced is not None:
            self._announced.forget(one.name for one in output.evicted)
        for device in output.devices_gone:
            self._status.pop(device, None)

    def status(self) -> dict[str, Any]:
        """Return what a person sees of it."""
        return {
            "shown": self.shown,
            "published": self.published,
            "waiting": len(self._queue),
            "dropped": self.dropped,
        }

    def _enqueue(self, message: Message) -> None:
        if len(self._queue) >= self._settings.queue:
            self._queue.popleft()
            if not self.dropped:
                log.warning(
                    "egress: messages are dropped, the broker does not take them",
                    broker=self._settings.broker,
                )
            self.dropped += 1
        self._queue.append(message)
        self._put.set()

    def _connected(self) -> None:
        """The broker may be another, or have lost what it retained."""
        for message in [
            *(self._announced.all() if self._announced is not None else ()),
            *self._status.values(),
        ]:
            self._enqueue(message)

    async def _run(self, outlet: Outlet) -> None:
        while True:
            while not self._queue:
                self._put.clear()
                await self._put.wait()
            message = self._queue[0]
            retain = message.kind in {"status", "config"} or (
                message.kind == "anomaly" and self._announced is not None
            )
            try:
                await outlet.publish(
                    message.topic, message.payload, qos=int(message.kind != "window"), retain=retain
                )
            except TryAgain:
                await asyncio.sleep(_AGAIN_S)
                continue
            except Exception as error:  # noqa: BLE001 - one that cannot be sent must not hold up the others
                log.error("egress: a message cannot be sent", topic=message.topic, error=str(error))
                self.dropped += 1
            else:
                self.published += 1
            if self._queue and self._queue[0] is message:  # else it was dropped meanwhile
                self._queue.popleft()
