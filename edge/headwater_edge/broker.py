"""The broker client: a source that subscribes to a broker which a site already has, and acknowledges after the commit.

The broker may be away when the agent starts, and at any time later. It keeps what we have not acknowledged, and sends it again
after the next connect with DUP; its Receive Maximum is the backpressure, and not to read its socket the second line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import cast

from headwater_edge.answers import pubcomps
from headwater_edge.broker_burst import BrokerBurst
from headwater_edge.broker_counts import BrokerCounts
from headwater_edge.broker_faults import BrokerLost, closed, named, unreachable
from headwater_edge.broker_known import known_of
from headwater_edge.broker_link import Link, open_link
from headwater_edge.broker_packets import GOODBYE, HINTS, TAKEN_OVER
from headwater_edge.broker_retry import Retry
from headwater_edge.broker_settings import BrokerSettings, terms, tls_context
from headwater_edge.broker_talk import Talk
from headwater_edge.connection import HABIT
from headwater_edge.events import Disconnect
from headwater_edge.naps import Naps
from headwater_edge.protocol import BadPacket
from headwater_edge.publishes import pubacks
from headwater_edge.source import Burst
from headwater_shared.clock import Clock
from headwater_shared.errors import HeadwaterError
from headwater_shared.logs import get_logger

log = get_logger()

_CHUNK = 65_536
_FULL = 8_000_000
"""Bytes of one burst, after which the rest waits for the next nap."""
_CONNECT_S = 15.0
_SUSPICIOUS = 3
"""So many connections in a row that the broker closed without a word, soon after it had let us in, look like a takeover:
Mosquitto 2.0 tells nobody that another client came with the same id."""
_SOON_S = 60.0


class Broker:
    """A source (`headwater_edge.source.Source`): one session with one broker; all of it on one event loop.

    Args:
        settings: of this broker, checked.
        agent: the agent's name.
        password: in plain text, "" for none.
        clock: tells when a burst was read; keep alive, time-outs and delays follow `monotonic` (seconds).
        connections: numbers for connections, none twice in an epoch.
        deliver: takes a burst; not before `start`, not after `close`.
        remembered: filters of the session as the journal has them, None if it knows no session.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        agent: str,
        password: str,
        clock: Clock,
        connections: Iterator[int],
        deliver: Callable[[Burst], None],
        *,
        remembered: Callable[[], Mapping[str, int] | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        retry: Retry | None = None,
    ) -> None:
        self._settings = settings
        self._terms = terms(settings)
        self._agent = agent
        self._client_id = settings.client_id or f"headwater-{agent}-{settings.name}"
        self._password = password
        self._clock = clock
        self._connections = connections
        self._deliver = deliver
        self._remembered = remembered
        self._monotonic = monotonic
        self._retry = retry or Retry(self._terms.reconnect_s, self._terms.reconnect_most_s)
        self._known = known_of(settings, self._terms)
        self._naps = Naps(self._terms.nap_s, self._read)
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._talk: Talk | None = None
        self._over: asyncio.Future[None]
        self._beat: asyncio.TimerHandle | None = None
        self._paused = False
        self._held = False
        """So much of this broker waits for the disk that it is not read."""
        self._answered = 0.0
        self._one_by_one = 0
        self._closed_soon = 0
        self.counts = BrokerCounts(settings.name)

    @property
    def name(self) -> str:
        return self._settings.name

    def start(self) -> None:
        """Connect, and stay connected, from now on."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._stay(), name=f"broker {self.name}")
        self._task.add_done_callback(lambda task: task.cancelled() or task.result())

    async def close(self) -> None:
        """End the connection; what was not acknowledged comes again at the next start."""
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """Publish at QoS 0; tell whether the broker is connected and takes it."""
        return self._talk is not None and self._published(self._talk, topic, payload)

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Give the broker a command (see `Source`): whether its device is there, nobody says."""
        talk = self._talk
        if talk is None or talk.number in but:
            return []
        return [talk.number] if self._published(talk, topic, payload, max(1, left_s)) else []

    def _published(self, talk: Talk, topic: bytes, payload: bytes, left_s: int = 0) -> bool:
        try:
            return talk.publish(topic, payload, self._monotonic(), left_s)
        except OSError as error:
            self._lose(error)
            return False

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        """Send the acknowledgements of committed bursts, with one write; those of older connections died with them (R5)."""
        talk = self._talk
        if talk is None or not talk.number:
            return
        ids: list[int] = []
        for burst in cast("Sequence[BrokerBurst]", bursts):
            if burst.connection == talk.number:
                ids += burst.acknowledgements()
                talk.acknowledged(burst)
        acks = pubacks(ids)
        self.counts.acknowledgements += len(acks) >> 2
        acks += self._pubcomps(bursts, talk.number)
        if acks:
            self._answered = self._monotonic()
            try:
                talk.write(acks, self._answered)
            except OSError as error:
                self._lose(error)
        if self._held and not self._too_much(talk):
            self._held = False
            self._read_or_not()

    def _pubcomps(self, bursts: Sequence[Burst], number: int) -> bytes:
        """PUBCOMPs for what the broker released; its session or ours may not know all of it, after a loss."""
        comps = b""
        for burst in cast("Sequence[BrokerBurst]", bursts):
            if burst.released and burst.connection == number:
                unknown = {packet_id for connection, packet_id in burst.unknown if connection == number}
                comps += pubcomps(self._settings.version == "5", burst.released, unknown)
        return comps

    def refuse(self, connections: Iterable[int]) -> None:
        """Leave messages unacknowledged that can be neither read nor kept: the agent has taken them out of their burst (R20).

        The connection is that of many devices, so it stays, and all other messages go on. The broker keeps those that were
        left out on the way to us, and sends them again when we connect anew: after a while, for there may be room then.
        """
        if self._talk is not None and self._talk.number in connections:
            self.counts.left_with_broker += 1
            self._talk.withhold(self._monotonic())

    def hold(self) -> None:
        """The broker holds what is not acknowledged: it sends no more than it may (R18)."""

    def pause(self) -> None:
        """Stop reading the socket; keep alive goes on."""
        self._paused = True
        self._read_or_not()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        self._read_or_not()

    async def _stay(self) -> None:
        while True:
            began, connects = self._monotonic(), self.counts.connects
            try:
                await self._once()
            except (HeadwaterError, OSError) as error:
                fault = named(error)
            lasted = self._monotonic() - began if self.counts.connects > connects else 0.0
            reason = fault.reason if isinstance(fault, BrokerLost) else "settings"
            taken_over = reason == "taken-over"
            wait_s = self._retry.after_takeover() if taken_over else self._retry.after(lasted)
            self._closed_soon = self._closed_soon + 1 if reason == "closed" and lasted < _SOON_S else 0
            if self._closed_soon >= _SUSPICIOUS:
                message = f"the broker closes each connection soon: another client seems to use the id {self._client_id!r}"
                fault = BrokerLost(message, reason=reason, hint=HINTS[TAKEN_OVER])
            self.counts.lost[reason] += 1
            self.counts.why = fault.message
            grave = taken_over or self._closed_soon >= _SUSPICIOUS or reason == "settings"
            say = log.error if grave else log.warning
            say(
                "no connection to the broker",
                broker=self.name,
                reason=reason,
                error=fault,
                again_in_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)

    async def _once(self) -> None:
        """Connect, and stay until the connection is over.

        Raises:
            HeadwaterError, OSError: why it is over.
        """
        settings = self._settings
        context = tls_context(settings)
        try:
            async with asyncio.timeout(_CONNECT_S):
                link = await open_link(settings.host, settings.port, context, self._lose)
        except OSError as error:
            raise unreachable(f"{settings.host}:{settings.port}", error) from None
        self._link = link
        self._over = self._loop.create_future()
        self._talk = talk = Talk(
            settings, self._terms, self._agent, self._client_id,
            known=self._known, send=link.send, numbers=self._connections, remembered=self._remembered,
            counts=self.counts, now=self._monotonic(),
        )  # fmt: skip
        self._held = False
        try:
            talk.open(self._password, self._monotonic())
            self._read_or_not()
            self._on_beat()
            await self._over
        finally:
            self._let_go(talk, link)

    def _let_go(self, talk: Talk, link: Link) -> None:
        self._naps.stop()
        if self._beat:
            self._beat.cancel()
        link.close(GOODBYE if talk.number else b"")
        self._link = self._talk = None
        if not talk.number:
            return
        now_us = self._clock.now().wall_us
        self.counts.connected, self.counts.since_us = False, now_us
        if self._task is not None:  # else the agent ends, and says so to all connections at its next start
            burst = BrokerBurst(now_us, connection=talk.number)
            burst.events.append((0, Disconnect(talk.number, clean=False)))
            self._deliver(burst)

    def _lose(self, error: Exception) -> None:
        """The connection is over; the first reason counts."""
        self._naps.stop()
        if not self._over.done():
            self._over.set_exception(error)

    def _read_or_not(self) -> None:
        if self._link is None or self._over.done():
            return
        if self._paused or self._held:
            self._naps.stop()
        else:
            self._naps.start(self._loop, self._link.fd)
            self._naps.soon()  # what came meanwhile may not be announced again

    def _on_beat(self) -> None:
        assert self._talk is not None
        spans = (float(self._terms.keep_alive_s), self._terms.canary_s or 1.0, self._terms.canary_timeout_s)
        self._beat = self._loop.call_later(min(1.0, *(span / 4 for span in spans)), self._on_beat)
        try:
            self._talk.beat(self._monotonic(), reading=not (self._paused or self._held))
        except (BrokerLost, OSError) as error:
            self._lose(error)

    def _read(self) -> bool:
        """Read all that is there, deliver it as one burst, and tell whether anything came."""
        talk, link = self._talk, self._link
        assert talk is not None
        assert link is not None
        burst = BrokerBurst(self._clock.now().wall_us)
        now, new = self._monotonic(), not talk.number
        fault: Exception | None = None
        try:
            while not self._held:
                data = link.receive(_CHUNK)
                if not data:
                    raise closed(bool(talk.number))
                talk.take(data, burst, now)
                if len(data) < _CHUNK or burst.wire_bytes > _FULL:
                    break
                self._held = self._too_much(talk, burst)
        except BlockingIOError:
            pass
        except ConnectionError as error:
            fault = error if talk.number else closed(bool(talk.number))
        except (BadPacket, BrokerLost, OSError) as error:
            fault = error
        if new and talk.number:
            self._connected(talk)
        found = self._hand_on(talk, burst, now)
        if fault is not None:
            self._lose(fault)
        elif self._held or self._too_much(talk):
            self._held = True
            self.counts.held_back += 1
            self._read_or_not()
        return found

    def _hand_on(self, talk: Talk, burst: BrokerBurst, now: float) -> bool:
        first = not talk.waiting_messages
        talk.finish(burst, now)
        self.counts.messages += len(burst.topics)
        self.counts.bytes += burst.wire_bytes
        if not burst.owed and not burst.events:
            return False
        if burst.topics:
            # A broker whose window for us is small sends no more until it has our acknowledgements (R19).
            at_once = first and now - self._answered <= 1.5 * self._terms.nap_s
            self._one_by_one = self._one_by_one + 1 if at_once else 0
            burst.waiting = int(self._one_by_one >= HABIT)
        self._deliver(burst)
        return True

    def _too_much(self, talk: Talk, burst: BrokerBurst | None = None) -> bool:
        """Whether so much waits for the disk that the socket is not read: the second line, behind Receive Maximum.

        It is twice that: one that keeps to it never gets there.
        """
        messages, size = talk.waiting_messages, talk.waiting_bytes
        if burst is not None:
            messages, size = messages + len(burst.packet_ids), size + burst.wire_bytes
        return messages > 2 * self._settings.receive_maximum or size > self._terms.in_flight_bytes

    def _connected(self, talk: Talk) -> None:
        self._client_id = talk.client_id
        counts = self.counts
        counts.connects += 1
        counts.connected, counts.since_us, counts.why = True, self._clock.now().wall_us, ""
        log.info("broker connected", broker=self.name, host=self._settings.host, port=self._settings.port)
