"""HTTP push: devices without MQTT post here; what one moment brings is one burst, and the 200 comes after its commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from headwater_edge.connection import HABIT
from headwater_edge.events import Keyed
from headwater_edge.http_answers import answer, date, headers_of, refused, taken
from headwater_edge.http_connection import HttpConnection
from headwater_edge.http_counts import HttpCounts, register
from headwater_edge.http_door import Door
from headwater_edge.http_exchange import Request, no_room
from headwater_edge.http_request import NotTaken, hash64, messages, names_a_device, no_such_topic
from headwater_edge.http_settings import HttpSettings, http_limits
from headwater_edge.http_users import Check, Gate, Guest
from headwater_edge.idempotency import Verdict
from headwater_edge.listener_counts import Complaints
from headwater_edge.source import QOS1, Burst
from headwater_shared.clock import Clock
from headwater_shared.settings import listen_address

if TYPE_CHECKING:
    from ssl import SSLContext

    from prometheus_client import CollectorRegistry

_NAP_S = 0.02
"""How long a request waits so that others are taken with it, as in the listener."""
_AT_ONCE_S = 1.5 * _NAP_S
_FULL = 1_000_000
"""Bytes of payloads in one burst, after which it waits no longer."""


@dataclass(slots=True)
class HttpBurst(Burst):
    """A burst that knows whose answers it owes: (request, index of its first message)."""

    requests: list[tuple[Request, int]] = field(default_factory=list)


class HttpSource:
    """A source (`headwater_edge.source.Source`) to which devices post; all of it on one event loop.

    The path is the topic, the body a message, or a message a line. A request is one unit: all of it is in one burst, and
    so in one transaction. Its 200 goes out in `acknowledge` alone (R5); what is refused is answered at once, and nothing
    of it is taken.

    Args:
        settings: where to listen (`port` is set), and the limits.
        check: tells who may come in and what they may send to; None: anyone, on loopback.
        clock: tells when a burst was read; time-outs follow `monotonic` (seconds), which tests set.
        numbers: numbers for requests, none twice in an epoch: the same as the listener's for connections.
        deliver: takes a burst; not before `start`, not after `close`.
        anyone: whether nobody needs to say who they are; asked again and again.
        tls: serve HTTPS with it.
        reads: whether a topic is one that readings come by.
        registry: where the metrics are to be shown.

    Raises:
        SettingsError: the settings do not make sense, or would let anyone in from outside.
    """

    def __init__(
        self,
        settings: HttpSettings,
        check: Check | None,
        clock: Clock,
        numbers: Iterator[int],
        deliver: Callable[[Burst], None],
        *,
        anyone: Callable[[], bool] = lambda: False,
        tls: SSLContext | None = None,
        reads: Callable[[str], bool] = names_a_device,
        registry: CollectorRegistry | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = http_limits(settings)
        self._address = listen_address(
            settings.host, settings.port or 0, users=check is not None and not anyone()
        )
        self.port = self._address[1]
        self.max_body = self._limits.max_body
        self.now = monotonic
        self.counts = HttpCounts()
        self.waiting = 0
        """Bytes of bodies in memory."""
        self._clock = clock
        self._numbers = numbers
        self._deliver = deliver
        self._reads = reads
        self._gate = Gate(check, monotonic, anyone)
        self._complaints = Complaints(monotonic)
        make = partial(HttpConnection, self)
        self._door = Door(self._limits, tls, self.counts, make, monotonic)
        self._checks: set[asyncio.Task[None]] = set()
        self._burst = HttpBurst(0, whole=True)
        self._delivered = self._burst
        """The burst that was delivered last."""
        self._nap: asyncio.TimerHandle | None = None
        self._paused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        if registry is not None:
            register(registry, self.counts, lambda: self.connected, lambda: self.waiting)

    @property
    def connected(self) -> int:
        """Connections that are open, or about to be."""
        return len(self._door)

    async def start(self) -> None:
        """Listen; from now on `port` is the one that it got.

        Raises:
            PortInUse: another program has the address.
            SettingsError: the address is none of this machine, or not for this user.
        """
        self.port = self._door.open(*self._address)
        self._loop = asyncio.get_running_loop()

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        """Answer the requests in these bursts, whose commit is done."""
        today = date(self._clock.now())
        flushed: dict[HttpConnection, None] = {}
        for burst in cast("Sequence[HttpBurst]", bursts):
            letters, at = burst.dead, 0
            for request, begin in burst.requests:
                first = at
                while at < len(letters) and letters[at].message < begin + request.messages:
                    at += 1
                verdict = burst.verdicts.get(request.number)
                self.release(request)
                if verdict is Verdict.REFUSED:
                    self.turn_down(request, _other_content())
                else:
                    repeated = verdict is Verdict.REPEATED
                    self.counts.repeated += repeated
                    said = taken(request.messages, begin, letters[first:at], repeated=repeated)
                    self._answer(request, 200, said, [], today)
                flushed[request.connection] = None
        for connection in flushed:
            connection.flush()

    def refuse(self, connections: Iterable[int]) -> None:
        """Answer requests of the burst that is being delivered with an error: they can be neither read nor kept (R20).

        Nothing of them is taken: the agent has left their messages out, and their keys are not journaled.
        """
        refused, burst = set(connections), self._delivered
        turned_out = [request for request, _ in burst.requests if request.number in refused]
        burst.requests = [one for one in burst.requests if one[0].number not in refused]
        burst.events = [
            one for one in burst.events if not (isinstance(one[1], Keyed) and one[1].request in refused)
        ]
        for request in turned_out:
            request.messages = 0
            self.release(request)
            self.turn_down(request, _no_room_for_letters())
            request.connection.flush()

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Nobody listens here."""
        return []

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """Nobody listens here."""
        return False

    def hold(self) -> None:
        """Who posts now is told to come again."""
        self.pause()

    def pause(self) -> None:
        """Take nothing more: who posts now is told to come again, and what was taken is still answered (R18)."""
        self._paused = True

    def resume(self) -> None:
        """Take requests again."""
        self._paused = False

    async def close(self) -> None:
        """End all connections, let go of the address. What was not answered comes again, to whoever listens then."""
        self._loop = None
        if self._nap is not None:
            self._nap.cancel()
        for task in self._checks:
            task.cancel()
        self._door.close()

    def sweep(self) -> None:
        """End connections that are late; runs once a second while there are any."""
        self._door.sweep()

    # What its connections ask (`headwater_edge.http_exchange.Desk`).

    def number(self) -> int:
        """Return a number for a request."""
        return next(self._numbers)

    def begun(self, request: Request) -> None:
        """Look whether there is room for it, and whose it is."""
        self._look_for_room()
        assert request.head is not None
        guest = self._gate.known(request.head.authorization)
        if guest is not None:
            self._let_in(request, guest)
            return
        request.checking = True
        task = asyncio.ensure_future(self._check(request))
        self._checks.add(task)
        task.add_done_callback(self._checked)

    def book(self, request: Request, size: int) -> None:
        """Count bytes of a body."""
        request.size += size
        self.waiting += size
        self._look_for_room()

    def release(self, request: Request) -> None:
        """Its bytes are gone."""
        self.waiting -= request.size
        request.size = 0
        request.body = bytearray()

    def completed(self, request: Request) -> None:
        """Take it into the burst that gathers."""
        head = request.head
        assert head is not None
        assert request.guest is not None
        payloads, content = messages(head, bytes(request.body), self.max_body)
        self.book(request, max(0, sum(map(len, payloads)) - request.size))
        request.body = bytearray()
        burst, begin, n = self._burst, len(self._burst.topics), len(payloads)
        topic = head.topic.encode()
        if head.key:
            key = hash64(request.guest.user.encode(), topic, head.key)
            burst.events.append((begin, Keyed(request.number, key, content, n)))
        burst.topics += [topic] * n
        burst.payloads += payloads
        burst.packet_ids += [0] * n
        burst.flags += [QOS1] * n
        burst.runs.append((request.number, begin + n))
        burst.requests.append((request, begin))
        burst.size += n * len(topic) + sum(map(len, payloads))
        request.messages = n
        self.counts.messages += n
        burst.waiting += _waits(request.connection, self.now())
        self._hand_on_soon()

    def turn_down(self, request: Request, error: NotTaken) -> None:
        """Answer it with what to do, and say so in the log."""
        self.counts.refused[error.reason] += 1
        self._complaints.say("request refused", error, error.reason, request.connection)
        headers = headers_of(error)
        self._answer(request, error.status, refused(error), headers, date(self._clock.now()))

    def lost(self, connection: HttpConnection) -> None:
        """It is over."""
        self._door.lost(connection)

    # Its own.

    def _look_for_room(self) -> None:
        if self._paused:
            raise no_room("holding-back", "readings wait for the disk")
        if self.waiting > self._limits.max_waiting:
            raise no_room("max-waiting", f"{self.waiting} bytes of requests are in memory")

    def _let_in(self, request: Request, guest: Guest) -> None:
        assert request.head is not None
        topic = request.head.topic
        request.guest = guest
        request.connection.client = guest.user
        if not self._reads(topic):
            raise no_such_topic(topic)
        if not guest.allows(topic):
            raise NotTaken(
                403, "topic", f"the user {guest.user!r} may not send to {topic[:200]}", hint="see the agent's users"
            )  # fmt: skip

    async def _check(self, request: Request) -> None:
        assert request.head is not None
        host = request.connection.address.rpartition(":")[0]
        try:
            self._let_in(request, await self._gate.ask(request.head.authorization, host))
        except NotTaken as error:
            request.error = request.error or error
        request.connection.checked(request)

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._checks.discard(task)
        if not task.cancelled():
            task.result()  # a programming error ends the process

    def _answer(
        self, request: Request, status: int, said: dict[str, Any], headers: list[bytes], today: bytes
    ) -> None:
        self.counts.answers[status] += 1
        if request.old and not request.last:
            headers.append(b"Connection: keep-alive")
        whole = answer(status, said, *headers, date=today, closes=request.last)
        request.answer = whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.bare else whole

    def _hand_on_soon(self) -> None:
        """See to it that the burst is delivered within a nap."""
        burst = self._burst
        if len(burst.requests) == 1:
            burst.arrived_us = self._clock.now().wall_us
        if self._nap is None and self._loop is not None:
            self._nap = self._loop.call_later(_NAP_S, self._hand_on)
        if burst.size >= _FULL and self._nap is not None:
            self._nap.cancel()
            self._hand_on()

    def _hand_on(self) -> None:
        self._nap = None
        burst, self._burst = self._burst, HttpBurst(0, whole=True)
        self._delivered = burst
        self._deliver(burst)


def _waits(connection: HttpConnection, now: float) -> bool:
    """Whether its client sends one request at a time, each as soon as the one before was answered (R19)."""
    if len(connection.requests) == 1 and now - connection.answered <= _AT_ONCE_S:
        connection.one_by_one += 1
    else:
        connection.one_by_one = 0
    return connection.one_by_one >= HABIT


def _other_content() -> NotTaken:
    return NotTaken(
        422, "other-content", "this Idempotency-Key came before with another body", hint="give each request a key of its own, and resend the same bytes under it"
    )  # fmt: skip


def _no_room_for_letters() -> NotTaken:
    hint = "the agent's dead letters must be taken again or purged, then send the same again"
    return NotTaken(
        507,
        "dead-letters-full",
        "it cannot be read, and no more dead letters are kept",
        hint=hint,
        retry_s=60,
    )
