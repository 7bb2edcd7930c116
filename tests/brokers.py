"""Brokers for tests of the broker client: a real Mosquitto that can be killed and started again, and one that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from headwater_appliance.ports import steady_port
from headwater_edge.broker_settings import BrokerSettings
from tests.started import Started
from tests.support import part_required, program
from tests.system.wire import Wire


class MosquittoServer(Started):
    """A Mosquitto on one port for its whole life, however often it dies; ended well, it writes down what it holds, with persistence.

    `config` is added to its settings.
    """

    def __init__(self, folder: Path, config: str = "", *, listener: str = "", port: int = 0) -> None:
        """Write its settings; `listener` stands below the listener, as TLS does."""
        part_required("mosquitto")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or steady_port()
        self._settings = folder / "mosquitto.conf"
        super().__init__(folder / "mosquitto.log")
        self._settings.write_text(
            f"user root\nlog_type all\n{config}\nlistener {self.port} 127.0.0.1\nallow_anonymous true\n{listener}\n"
        )

    def start(self) -> None:
        """Start it, and wait until it listens."""
        executable = program("mosquitto")
        assert executable is not None
        before = self.log().count(" running\n")
        self.begin([executable, "-c", str(self._settings)], lambda: self.log().count(" running\n") > before)


@contextmanager
def mosquitto_server(
    folder: Path, config: str = "", *, listener: str = "", port: int = 0
) -> Iterator[MosquittoServer]:
    """Run one; it is ended with the block."""
    made = MosquittoServer(folder, config, listener=listener, port=port)
    made.start()
    try:
        yield made
    finally:
        made.end()


PERSISTENT = "persistence true\npersistence_location {folder}/\nmax_queued_messages 0"


def persistent(folder: Path) -> str:
    """Return the settings with which Mosquitto writes its sessions down, when it is ended or told to (SIGUSR1)."""
    return PERSISTENT.format(folder=folder)


def broker_settings(port: int, **keys: Any) -> BrokerSettings:
    """Return settings of a broker on this machine, with some keys set."""
    given: dict[str, Any] = {
        "name": "plant",
        "host": "127.0.0.1",
        "port": port,
        "nap": "5ms",
        "filters": ("hw/#",),
    }
    return BrokerSettings(**(given | keys))


def publish(port: int, *messages: tuple[str, bytes], retain: bool = False) -> None:
    """Publish at QoS 1, all at once, and wait until the broker has acknowledged each."""
    with Wire(port, "publisher") as wire:
        packets = [wire.publish(topic, payload) for topic, payload in messages]
        wire.send(b"".join(bytes((packet[0] | retain,)) + packet[1:] for packet in packets))
        wire.read_acknowledgements(len(messages))


@asynccontextmanager
async def scripted_broker(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Listen on a port of the loopback, and run the script for each connection: a broker that does what none should."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
            await reader.read()  # until the client goes
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one short packet: its first byte and its body."""
    first, length = await reader.readexactly(2)
    assert length < 128
    return first, await reader.readexactly(length)
