"""A line that carries no more than so many bytes a second, between who writes and a server: a slow store, or a poor link to one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from headwater_appliance.ports import steady_port

_PIECE = 1 << 12


class Throttle:
    """Forwards connections to a port of the loopback; what is sent to it goes at `rate`, what it answers at once."""

    def __init__(self, to: int, rate: int) -> None:
        """Make it; `rate` in bytes a second may be changed while it runs."""
        self.port, self.rate = steady_port(), rate
        self.carried = 0
        """Bytes that were sent to the server."""
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """End all connections, and listen no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        loop = self._loop
        server = loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", self.port)  # a coroutine of this loop
        )
        self._ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(self._end())
        loop.close()

    async def _end(self) -> None:
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            server, forth = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            back.close()
            self._tasks.discard(task)
            return
        ways = [
            asyncio.ensure_future(self._slowly(client, forth)),
            asyncio.ensure_future(self._at_once(server, back)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (forth, back):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            self._tasks.discard(task)

    async def _slowly(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            arrived = asyncio.Event()
            self._loop.call_later(len(data) / self.rate, arrived.set)
            await arrived.wait()
            to.write(data)
            self.carried += len(data)
            await to.drain()

    async def _at_once(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            to.write(data)
            await to.drain()


@contextmanager
def throttle(to: int, rate: int) -> Iterator[Throttle]:
    """Run one for the time of the block."""
    made = Throttle(to, rate)
    made.start()
    try:
        yield made
    finally:
        made.stop()
