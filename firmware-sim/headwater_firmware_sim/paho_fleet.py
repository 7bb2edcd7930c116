"""The fleet as paho-mqtt clients, a thread each: a real client library for a few devices.

paho keeps a session in memory only. So a drop of the socket is paho's own to mend (it sends again with DUP), while a
new start of the process is a reboot of its devices: what the ledger still keeps goes out as new messages.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from headwater_firmware_sim.ending import Ending
from headwater_firmware_sim.flash import Kept
from headwater_firmware_sim.misbehave import Step
from headwater_firmware_sim.packets import V5
from headwater_firmware_sim.plan import FOREVER_US, Plan
from headwater_firmware_sim.roster import Member
from headwater_firmware_sim.server import LONGEST_S, SHORTEST_S, Server, tls_context
from headwater_firmware_sim.tally import Tally
from headwater_shared.clock import Clock
from headwater_shared.errors import SettingsError
from headwater_shared.extras import load
from headwater_shared.ledger_writer import Ledger

_NAP_S = 0.02
_CLOSED_FOR_GOOD = {"Bad user name or password", "Not authorized", "Client identifier not valid", "Banned"}


class _Said(NamedTuple):
    """Something that a network thread heard."""

    client: _Client
    generation: int
    what: str
    mid: int = 0
    text: str = ""


class _Client:
    """One device on a paho client; after a reboot on another one."""

    def __init__(self, member: Member, server: Server, tally: Tally, said: queue.SimpleQueue[_Said]) -> None:
        self.device, self.flash, self._script = member
        self._server = server
        self._tally = tally
        self._said = said
        self._next: Step | None = None
        self._exhausted = False
        self._generation = 0
        self._by_mid: dict[int, int] = {}
        self._out: list[tuple[Kept, str]] = []
        self._connected = False
        self._mqtt: Any = None
        again = self.flash.renew()
        self._out += [(kept, "") for kept in again]
        # At QoS 2 the session of an older process knows packet ids that this one does not.
        self._start(clean=bool(again) or server.qos == 2)

    def fill(self, now_us: int) -> None:
        """Take from the script what may be sent at `now_us`."""
        while len(self.flash) < self._server.in_flight and not self._exhausted:
            if self._next is None:
                self._next = next(self._script, None)
                self._exhausted = self._next is None
                continue
            if self._next.due_us > now_us:
                return
            step, self._next = self._next, None
            self._tally.messages += 1
            self._tally.readings += len(step.readings)
            self._out.append((self.flash.take(step), step.after))
            if step.after:
                return

    def flush(self) -> Iterator[None]:
        """Publish what the ledger has; yields where it must be committed before more is published."""
        out, self._out = self._out, []
        after = ""
        for kept, after in out:  # noqa: B007 (what befalls the device after the last one)
            self._publish(kept)
        if after == "drop":
            self._tally.drops += 1
            self._cut()
        elif after == "reboot":
            self._tally.reboots += 1
            self._end()
            again = self.flash.renew()
            yield
            self._tally.resent += len(again)
            self._start(clean=True)
            for kept in again:
                self._publish(kept)

    def hear(self, said: _Said) -> None:
        """Take in what the network thread heard.

        Raises:
            SettingsError: the server refuses the device.
        """
        if said.generation != self._generation:
            return  # from before the reboot
        if said.what == "refused":
            raise SettingsError(
                f"{self._server.host}:{self._server.port} refused the device {self.device.name}: {said.text}",
                hint="set --user and --password as the server wants them",
            )
        if said.what in {"connected", "lost"}:
            now = said.what == "connected"
            self._tally.connected += now - self._connected
            self._tally.connections += now
            self._connected = now
            return
        packet_id = self._by_mid.pop(said.mid, 0)
        taken = said.what == "acknowledged"
        kept = self.flash.acknowledge(packet_id) if taken else self.flash.refuse(packet_id)
        if kept is not None:
            self._tally.acknowledged += taken
            self._tally.refused += not taken

    def halt(self) -> None:
        self._exhausted, self._next = True, None

    @property
    def unsent(self) -> bool:
        """Whether something of the script was not sent at all."""
        return not self._exhausted

    @property
    def finished(self) -> bool:
        """Whether all is sent and acknowledged."""
        return self._exhausted and not self.flash

    def close(self) -> None:
        if self._mqtt is not None:
            self._mqtt.disconnect()
            self._mqtt.loop_stop()

    def _publish(self, kept: Kept) -> None:
        told = self._mqtt.publish(kept.topic, kept.payload, qos=self._server.qos)
        self._by_mid[told.mid] = kept.packet_id

    def _start(self, *, clean: bool) -> None:
        paho = load("paho.mqtt.client", "sim")
        v5 = self._server.version == V5
        generation = self._generation

        def say(what: str, mid: int = 0, text: str = "") -> None:
            self._said.put(_Said(self, generation, what, mid, text))

        def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if not reason.is_failure:
                say("connected")
            elif reason.getName() in _CLOSED_FOR_GOOD:
                say("refused", text=reason.getName().lower())

        def on_publish(_client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
            say("not taken" if reason.is_failure else "acknowledged", mid)

        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            self.device.name,
            clean_session=None if v5 else clean,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
        )
        client.on_connect = on_connect
        client.on_publish = on_publish
        client.on_disconnect = lambda *_: say("lost")
        client.max_inflight_messages_set(self._server.in_flight)
        client.reconnect_delay_set(SHORTEST_S, LONGEST_S)
        if self._server.user:
            client.username_pw_set(self._server.user, self._server.password or None)
        context = tls_context(self._server)
        if context is not None:
            client.tls_set_context(context)
        more: dict[str, Any] = {}
        if v5:
            properties = load("paho.mqtt.properties", "sim")
            expiry = properties.Properties(load("paho.mqtt.packettypes", "sim").PacketTypes.CONNECT)
            expiry.SessionExpiryInterval = 86_400
            more = {"clean_start": clean, "properties": expiry}
        client.connect_async(self._server.host, self._server.port, self._server.keep_alive_s, **more)
        client.loop_start()
        self._mqtt = client

    def _cut(self) -> None:
        """Drop the socket under paho's feet."""
        wire = self._mqtt.socket()
        if wire is not None:
            with suppress(OSError):  # it went by itself
                wire.shutdown(socket.SHUT_RDWR)

    def _end(self) -> None:
        """Lose the client, and with it its session."""
        self._cut()
        self.close()
        self._tally.connected -= self._connected
        self._connected = False
        self._generation += 1
        self._by_mid.clear()


class PahoFleet:
    """Drives the devices of a plan until the run is over; the same as `Fleet`, and for a few devices only."""

    def __init__(
        self,
        plan: Plan,
        members: Sequence[Member],
        server: Server,
        book: Ledger,
        clock: Clock,
        *,
        paced: bool,
    ) -> None:
        self.tally = Tally(devices=len(members))
        self._plan = plan
        self._book = book
        self._clock = clock
        self._paced = paced
        self._said: queue.SimpleQueue[_Said] = queue.SimpleQueue()
        self._clients = [
            _Client(member, server.at(member.device.site), self.tally, self._said) for member in members
        ]

    @property
    def unacknowledged(self) -> int:
        """Messages that were sent, and may be on the way."""
        return sum(len(client.flash) for client in self._clients)

    @property
    def unsent(self) -> bool:
        """Whether a part of the plan was not even sent."""
        return any(client.unsent for client in self._clients)

    def run(
        self, drain_s: float, stop: threading.Event, each_second: Callable[[Tally], None] | None = None
    ) -> None:
        """Send all of the plan, and again until it is acknowledged, or until the ending says that it is over.

        Raises:
            SettingsError: the server refuses a device.
            StateError: the ledger cannot be written.
        """
        ending = Ending(self._plan.end_us, paced=self._paced, drain_s=drain_s, stop=stop)
        second = time.monotonic() + 1
        finished = False
        try:
            while not ending.over(self._clock.now().wall_us, self.tally.acknowledged, finished=finished):
                self._listen()
                self._send(halted=stop.is_set())
                finished = all(client.finished for client in self._clients)
                self.tally.in_flight = self.unacknowledged
                if each_second is not None and time.monotonic() >= second:
                    second += 1
                    each_second(self.tally)
        finally:
            for client in self._clients:
                client.close()
            self._book.commit()

    def _listen(self) -> None:
        """Take in what was heard; wait for it one nap at most."""
        with suppress(queue.Empty):
            said = self._said.get(timeout=_NAP_S)
            while True:
                said.client.hear(said)
                said = self._said.get_nowait()

    def _send(self, *, halted: bool) -> None:
        now_us = self._clock.now().wall_us if self._paced else FOREVER_US
        for client in self._clients:
            if halted:
                client.halt()
            client.fill(now_us)
        self._book.commit()
        for client in self._clients:
            for _ in client.flush():
                self._book.commit()
        self._book.commit()
