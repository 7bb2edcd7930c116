"""The link of one device: its socket, its MQTT session, what goes out on it and what is acknowledged on it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from headwater_firmware_sim import packets
from headwater_firmware_sim.flash import Flash, Kept
from headwater_firmware_sim.misbehave import Step
from headwater_firmware_sim.packets import PUBCOMP, PUBREC, Ack, Connack, Incoming, Malformed, Told
from headwater_firmware_sim.server import Server, Waits, refused_by_tls, tls_context
from headwater_firmware_sim.tally import Tally
from headwater_shared.errors import SettingsError

_ANSWER_S = 10.0
"""How long a server may take to answer CONNECT."""
_IMPATIENT = 37
"""At QoS 2 every so many messages of a device that misbehaves go out twice, and so do their PUBRELs: it has a timer."""


class Link(asyncio.Protocol):
    """One device on a socket of its own, of one connection after the other.

    `fill` makes bytes of what may be sent now, `flush` writes them; between the two the fleet commits the ledger.
    """

    def __init__(
        self,
        name: str,
        flash: Flash,
        script: Iterator[Step],
        server: Server,
        tally: Tally,
        wake: Callable[[Link], None],
        *,
        misbehaves: bool = False,
    ) -> None:
        self.scheduled = False
        """Whether the fleet will wake it when its next step is due."""
        self.protocol: asyncio.Protocol = self  # or a road, where a network script concerns it
        self.reachable: Callable[[], bool] = lambda: True
        self._name = name
        self._flash = flash
        self._script = script
        self._next: Step | None = None
        self._exhausted = False
        self._server = server
        self._tally = tally
        self._wake = wake
        self._waiting: deque[tuple[Kept, bool]] = deque()
        """To be sent again on this connection, with DUP or without, before anything new."""
        self._to_release: list[int] = []
        """Packet ids that want a PUBREL on this connection."""
        self._impatient = misbehaves and server.qos == 2
        self._outstanding = 0
        self._window = server.in_flight
        self._out: list[bytes] = []
        self._after = ""
        self._clean = False
        self._fresh = flash.unused
        """Nothing of what is kept was sent in any session, whichever the server says it has: a CONNACK may have been lost."""
        self._returns = False
        """It hung up only to come back at once."""
        if server.qos == 2:
            self._clean = flash.unused  # whatever session there is, this device does not know its packet ids
            flash.suspect(4 * server.in_flight)
        self._ready = False
        self._transport: asyncio.Transport | None = None
        self._incoming = Incoming(server.version)
        self._closed: asyncio.Future[None] | None = None
        self._refused: SettingsError | None = None
        self._wrote = self._heard = 0.0
        self._keep_alive_s = float(server.keep_alive_s)

    @property
    def finished(self) -> bool:
        """Whether all is sent, acknowledged and complete."""
        return self._exhausted and not self._flash and not self._flash.unreleased

    @property
    def unacknowledged(self) -> int:
        return len(self._flash)

    @property
    def unsent(self) -> bool:
        """Whether something of the script was not sent at all."""
        return not self._exhausted

    def halt(self) -> None:
        """Take nothing more from the script."""
        self._exhausted, self._next = True, None

    async def stay_connected(self, gate: asyncio.Semaphore) -> None:
        """Connect again whenever the connection is lost; ends only by being cancelled.

        Args:
            gate: lets so many devices connect at once.

        Raises:
            SettingsError: the server does not want this device, and will not want it later.
        """
        waits, loop = Waits(), asyncio.get_running_loop()
        while True:
            begun = loop.time()
            async with gate:
                await self._connect(loop)
            if self._closed is not None:
                await self._closed
            if self._refused is not None:
                raise self._refused
            if self._returns:
                self._returns = False
                continue
            waits.held(loop.time() - begun)
            await asyncio.sleep(waits.next())

    def fill(self, now_us: int) -> int | None:
        """Make ready what may be sent at `now_us`; return when the next step is due if only that is awaited."""
        if not self._ready or self._after:
            return None
        self._release()
        while self._outstanding < self._window:
            if self._waiting:
                kept, dup = self._waiting.popleft()
                self._tally.resent += 1
            else:
                step = self._peek()
                if step is None:
                    return None
                if step.due_us > now_us:
                    return None if self.scheduled else step.due_us
                self._next = None
                kept, dup = self._flash.take(step), False
                self._tally.messages += 1
                self._tally.readings += len(step.readings)
                self._after = step.after
            self._out.append(self._written(kept, dup=dup))
            if self._impatient and not kept.message.number % _IMPATIENT:
                self._out.append(self._written(kept, dup=True))
            self._outstanding += 1
            if self._after:
                return None
        return None

    def _release(self) -> None:
        """Make PUBRELs ready: like a message, none goes out before the ledger has what it rests on."""
        for packet_id in self._to_release:
            twice = self._impatient and not packet_id % _IMPATIENT
            self._out.append(packets.pubrel(packet_id) * (1 + twice))
        self._to_release.clear()

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    def flush(self) -> None:
        """Write what `fill` made ready, and fall over if the script says so."""
        out, self._out = self._out, []
        after, self._after = self._after, ""
        if self._transport is None or not self._ready:
            return  # the connection went meanwhile: what it would have carried is kept, and comes again
        self._transport.write(b"".join(out))
        self._wrote = asyncio.get_running_loop().time()
        if after:
            self._fall_over(reboot=after == "reboot")

    def check_alive(self, now: float) -> None:
        """Ask the server for a sign of life, or give the connection up; `now` is the loop's time."""
        if not self._ready or self._transport is None or not self._keep_alive_s:
            return
        if now - self._heard > 1.5 * self._keep_alive_s:
            self._transport.abort()
        elif now - min(self._wrote, self._heard) > self._keep_alive_s / 2:
            self._transport.write(packets.PINGREQ)
            self._wrote = now

    def hang_up(self) -> None:
        """Say goodbye."""
        if self._transport is not None:
            if self._ready:
                self._transport.write(packets.disconnect(self._server.version))
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce the device."""
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        self._incoming = Incoming(server.version)
        self._wrote = self._heard = asyncio.get_running_loop().time()
        self._transport.write(
            packets.connect(
                server.version,
                self._name,
                clean=self._clean,
                keep_alive_s=server.keep_alive_s,
                user=server.user,
                password=server.password,
            )
        )

    def data_received(self, data: bytes) -> None:
        """Take in what the server says."""
        self._heard = asyncio.get_running_loop().time()
        try:
            for packet in self._incoming.feed(data):
                if isinstance(packet, Ack):
                    self._acknowledged(packet)
                elif isinstance(packet, Connack):
                    self._let_in(packet)
                elif isinstance(packet, Told):
                    self._told(packet)
        except Malformed:
            if self._transport is not None:
                self._transport.abort()
        if self._ready:
            self._wake(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what was in flight on it stays in the flash."""
        self._refused = self._refused or refused_by_tls(self._server, self._name, exc)
        self._tally.connected -= self._ready
        self._ready = False
        self._transport = None
        self._waiting.clear()
        self._to_release.clear()
        self._out.clear()
        self._after = ""
        self._outstanding = 0
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _written(self, kept: Kept, *, dup: bool) -> bytes:
        """Return a message as it goes over the wire."""
        server = self._server
        return packets.publish(
            server.version, kept.topic, kept.payload, kept.packet_id, dup=dup, qos=server.qos
        )

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect; leave `_closed` None where nobody listens."""
        self._closed = None
        if not self.reachable():
            return
        server = self._server
        tls = tls_context(server)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await loop.create_connection(lambda: self.protocol, server.host, server.port, ssl=tls)
        except OSError as error:  # a time-out too
            self._refused = self._refused or refused_by_tls(server, self._name, error)
            return
        if self._transport is not None:
            self._closed = loop.create_future()
            loop.call_later(_ANSWER_S, self._expect_answer, self._transport)

    def _expect_answer(self, transport: asyncio.Transport) -> None:
        if transport is self._transport and not self._ready:
            transport.abort()

    def _let_in(self, packet: Connack) -> None:
        if packet.code:
            reason = packets.refusal(self._server.version, packet.code)
            if reason:
                self._refused = SettingsError(
                    f"{self._server.host}:{self._server.port} refused the device {self._name}: {reason}",
                    hint="set --user and --password as the server wants them",
                )
            assert self._transport is not None
            self._transport.abort()
            return
        self._window = max(1, min(self._server.in_flight, packet.receive_maximum))
        self._keep_alive_s = float(packet.keep_alive_s or self._server.keep_alive_s)
        if self._clean and self._server.version == packets.V311:
            # That session ends with this connection, and what was sent in it could not be told from something new: the
            # next one begins one that the device, or a fleet that was killed, comes back to.
            self._clean, self._returns = False, True
            assert self._transport is not None
            self._transport.write(packets.disconnect(self._server.version))
            self._transport.close()
            return
        if self._fresh:
            self._waiting.extend((kept, False) for kept in self._flash.kept())
        elif packet.session_present:
            self._to_release += self._flash.unreleased
            self._outstanding += len(self._to_release)
            self._waiting.extend((kept, True) for kept in self._flash.kept())
        else:
            self._waiting.extend((kept, False) for kept in self._flash.renew())
        self._clean = self._fresh = False
        self._ready = True
        self._tally.connected += 1
        self._tally.connections += 1
        orders = self._flash.orders
        if orders is not None and orders.takes and self._transport is not None:
            self._transport.write(packets.subscribe(self._server.version, orders.topic, self._flash.spare_id))

    def _told(self, packet: Told) -> None:
        """Take a command: that it came is one thing, the device's own answer another."""
        orders = self._flash.orders
        if not self._ready or self._transport is None or orders is None:
            return
        self._tally.commands += 1
        if packet.packet_id:
            self._transport.write(packets.puback(packet.packet_id))
        orders.take(packet.payload, self._answer)

    def _answer(self, payload: bytes) -> None:
        """Say what became of a command; at QoS 0, for whoever does not hear it asks again."""
        orders = self._flash.orders
        if self._ready and self._transport is not None and orders is not None:
            self._transport.write(packets.publish_once(self._server.version, f"{orders.topic}/ack", payload))

    def _acknowledged(self, ack: Ack) -> None:
        if ack.kind == PUBCOMP:
            self._outstanding -= self._flash.complete(ack.packet_id)
            return
        refused = ack.reason >= 0x80
        if refused:
            kept = self._flash.refuse(ack.packet_id)
        elif ack.kind == PUBREC:
            kept = self._flash.receive(ack.packet_id)
            self._to_release.append(ack.packet_id)  # again, if it was sent twice
        else:
            kept = self._flash.acknowledge(ack.packet_id)
        if kept is not None:
            self._outstanding -= refused or ack.kind != PUBREC
            self._tally.acknowledged += not refused
            self._tally.refused += refused

    def _fall_over(self, *, reboot: bool) -> None:
        """Drop the socket with messages in flight; what the kernel has of them still arrives."""
        assert self._transport is not None
        self._tally.drops += not reboot
        self._tally.reboots += reboot
        if reboot:
            self._clean = self._fresh = True
            # Before the server hears of it: if fleet and server die in between, it must not come back as if it remembered.
            self._flash.reboot()
        self._ready = False
        self._tally.connected -= 1
        self._transport.abort()

    def _peek(self) -> Step | None:
        if self._next is None and not self._exhausted:
            self._next = next(self._script, None)
            self._exhausted = self._next is None
        return self._next
