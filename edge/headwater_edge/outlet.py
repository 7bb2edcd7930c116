"""A second, quiet connection to a broker that a site has, for what the agent puts out: alerts and egress; through aiomqtt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from headwater_edge.broker_settings import BrokerSettings, tls_context
from headwater_edge.ending import end
from headwater_shared import extras
from headwater_shared.errors import TryAgain
from headwater_shared.logs import get_logger
from headwater_shared.settings import duration

if TYPE_CHECKING:
    import aiomqtt

log = get_logger()

_ANSWER_S = 10.0


class Outlet:
    """Connects, and connects again; `publish` works while it is connected.

    Args:
        settings: of the broker, checked.
        agent: the agent's name; the client id is its own, since the other one is that of the source.
        password: in plain text, "" for none.
    """

    def __init__(self, settings: BrokerSettings, agent: str, password: str) -> None:
        extras.load("aiomqtt", "edge")
        self._settings = settings
        self._client_id = f"headwater-{agent}-{settings.name}-out"
        self._password = password
        self._client: aiomqtt.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self.connects = 0
        self.why = "it is not connected yet"
        """Why there is no connection."""
        self.on_connect: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        return self._client is not None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(
            self._stay(), name=f"outlet {self._settings.name}"
        )

    async def close(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            await end(task)

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Publish; at QoS 1 the broker has it on return.

        Raises:
            TryAgain: there is no connection, or no answer.
        """
        import aiomqtt

        client = self._client
        if client is None:
            raise TryAgain(f"broker {self._settings.name}: {self.why}")
        try:
            await client.publish(topic, payload, qos=qos, retain=retain, timeout=_ANSWER_S)
        except (aiomqtt.MqttError, ValueError) as error:
            raise TryAgain(f"broker {self._settings.name}: {error}") from None

    async def _stay(self) -> None:

        least_s = duration(self._settings.reconnect) / 1e6
        most_s = duration(self._settings.reconnect_most) / 1e6
        wait_s = least_s
        while True:
            try:
                async with self._made() as client:
                    self._client, self.why = client, ""
                    self.connects += 1
                    wait_s = least_s
                    log.info("outlet connected", broker=self._settings.name)
                    for tell in self.on_connect:
                        tell()
                    async for _ in client.messages:  # nothing is subscribed to: this ends with the connection
                        pass
            except Exception as error:  # noqa: BLE001 - a certificate that is gone, too: it is tried again
                self.why = str(error)
                log.warning("no connection for what is put out", broker=self._settings.name, error=str(error))
            finally:
                self._client = None
            if self._task is None:  # it was cancelled, and the library made an error of it
                return
            await asyncio.sleep(random.uniform(wait_s / 2, wait_s))  # noqa: S311 - so that agents do not come at once
            wait_s = min(2 * wait_s, most_s)

    def _made(self) -> aiomqtt.Client:
        import aiomqtt

        settings = self._settings
        version = aiomqtt.ProtocolVersion.V5 if settings.version == "5" else aiomqtt.ProtocolVersion.V311
        return aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.user or None,
            password=self._password or None,
            identifier=self._client_id,
            protocol=version,
            keepalive=max(5, duration(settings.keep_alive) // 1_000_000),
            tls_context=tls_context(settings),
            timeout=_ANSWER_S,
        )
