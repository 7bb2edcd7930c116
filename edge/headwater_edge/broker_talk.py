"""One connection's talk with a broker: from bytes to bursts, subscriptions, keep alive, and the canary. Nothing here waits."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping

from headwater_edge import broker_packets as packets
from headwater_edge import protocol
from headwater_edge.answers import publish
from headwater_edge.broker_burst import BrokerBurst
from headwater_edge.broker_counts import BrokerCounts
from headwater_edge.broker_faults import BrokerLost
from headwater_edge.broker_settings import CANARY, BrokerSettings, Terms
from headwater_edge.control import read_puback, read_pubrel
from headwater_edge.events import Connect, Subscribe, Unsubscribe
from headwater_edge.outgoing import Outgoing
from headwater_edge.protocol import PUBREL, BadPacket, body
from headwater_edge.publishes import Known, cut, pubrels
from headwater_edge.sessions import BROKERS, NEVER
from headwater_edge.source import QOS1, QOS2, RETAIN
from headwater_shared.logs import get_logger

log = get_logger()
_WITHHELD_S = 300.0
"""Seconds after which messages that could not be kept are asked for again."""
_ANSWER_S = 20.0
"""Seconds that a broker may take to answer CONNECT and SUBSCRIBE."""
_SUBSCRIBE_ID, _UNSUBSCRIBE_ID = 1, 2


def session_name(broker: str) -> str:
    """Return under which client id a broker's session is in the journal."""
    return BROKERS + broker


class Talk:
    """The talk over one connection, from CONNECT on.

    Args:
        client_id: under which the agent connects.
        known: topics and lengths found valid; it outlives connections.
        send: writes to the socket, at once or later.
        numbers: numbers for connections; one is taken when the broker lets us in.
        remembered: filters of the session as the journal has them, None if it has no session.
        now: monotonic seconds.
    """

    def __init__(
        self, settings: BrokerSettings, terms: Terms, agent: str, client_id: str, *, known: Known, send: Callable[[bytes], None],
        numbers: Iterator[int], remembered: Callable[[], Mapping[str, int] | None], counts: BrokerCounts, now: float,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._terms = terms
        self._v5 = settings.version == "5"
        self._known = known
        self._send = send
        self._numbers = numbers
        self._remembered = remembered
        self._counts = counts
        self.client_id = client_id
        self.number = 0
        """Of the connection; 0 until the broker let us in."""
        self.waiting_messages = 0
        self.waiting_bytes = 0
        """Delivered and not acknowledged; the bytes are those of whole packets."""
        self._opened = self._wrote = self._heard = self._seen = now
        """When it began, when we last wrote, when bytes came, when messages came."""
        self._outgoing = Outgoing(_UNSUBSCRIBE_ID + 1)
        self._keep_alive_s = terms.keep_alive_s
        self._max_packet = packets.LONGEST
        self._subscribed = False
        self._asked: list[str] = []
        self._canary_topic = CANARY + agent.encode()
        self._canary = b""
        self._canary_sent: float | None = None
        self._canary_works = False
        self._canary_s = terms.canary_s
        self._withheld: float | None = None
        """Since when there are messages that were not acknowledged and will not be."""
        self._rest: list[bytes] = []
        """The beginning of a packet whose end has not come, in pieces: `_have` bytes of at least `_need`."""
        self._have = self._need = 0

    def write(self, data: bytes, now: float) -> None:
        """Send bytes.

        Raises:
            OSError: the connection is broken.
        """
        self._send(data)
        self._wrote = now

    def open(self, password: str, now: float) -> None:
        """Ask to be let in."""
        settings, terms = self._settings, self._terms
        self.write(
            packets.connect(
                self._v5,
                self.client_id,
                user=settings.user,
                password=password,
                keep_alive_s=terms.keep_alive_s,
                expiry_s=terms.expiry_s,
                receive_maximum=settings.receive_maximum,
                max_packet=terms.max_packet,
            ),
            now,
        )

    def publish(self, topic: bytes, payload: bytes, now: float, left_s: int = 0) -> bool:
        """Publish at QoS 0, or at QoS 1 what is worth something for `left_s` seconds; False if the broker cannot have it now."""
        packet_id = self._outgoing.take() if self.number and left_s else 0
        if not self.number or (left_s and not packet_id):
            return False
        packet = publish(self._v5, topic, payload, packet_id, left_s)
        if len(packet) > self._max_packet:
            return False
        self.write(packet, now)
        return True

    def take(self, data: bytes, burst: BrokerBurst, now: float) -> None:
        """Take all whole packets into the burst; what is left waits for its end.

        Raises:
            BadPacket, BrokerLost, OSError: the connection is over; what came before stands in the burst.
        """
        self._heard = now
        if self._rest:
            self._rest.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data, self._rest = b"".join(self._rest), []
        at, size, before = 0, len(data), len(burst.topics)
        try:
            while at < size:
                if self.number:
                    at = cut(
                        data, at, self._v5, self._known,
                        burst.topics, burst.payloads, burst.packet_ids, burst.flags,
                    )  # fmt: skip
                    packet_ids, at = pubrels(data, at)
                    if packet_ids:
                        burst.releases(self.number, packet_ids)
                        continue
                    if at == size:
                        break
                found = body(data, at, self._known.max_packet)
                if found is None:
                    break
                self._control(data, at, found, burst, now)
                at = found[1]
        finally:
            burst.wire_bytes += at
            if len(burst.topics) > before:
                self._seen = now
        if at < size:
            rest = data[at:]
            self._rest, self._have = [rest], len(rest)
            self._need = packets.packet_size(rest) or len(rest) + 1

    def finish(self, burst: BrokerBurst, now: float) -> None:
        """Make the burst ready for delivery: what is no reading goes out of it, and what it is owed is written down."""
        burst.connection = self.number
        burst.owed = len(burst.topics)
        flags = burst.flags
        if flags.count(QOS1) != len(flags) != flags.count(QOS2):  # retained, resent, or QoS 0, as canaries
            self._sift(burst, now)
        if burst.topics:
            burst.runs = [(self.number, len(burst.topics))]
        burst.size = burst.wire_bytes
        self.waiting_messages += burst.owed
        self.waiting_bytes += burst.wire_bytes

    def acknowledged(self, burst: BrokerBurst) -> None:
        """What was in a burst no longer waits for the disk."""
        self.waiting_messages -= burst.owed
        self.waiting_bytes -= burst.wire_bytes

    def withhold(self, now: float) -> None:
        """Messages stay unacknowledged: ask for them again some time, by a new connection."""
        if self._withheld is None:
            self._withheld = now

    def beat(self, now: float, *, reading: bool) -> None:
        """Do what is due by time; `reading`: whether silence means anything, for we read.

        Raises:
            BrokerLost: the broker does not answer, or delivers nothing.
            OSError: the connection is broken.
        """
        if self._withheld is not None and now - self._withheld > _WITHHELD_S:
            raise BrokerLost(
                "messages were left with the broker that can be neither read nor kept; it is asked for them again",
                reason="dead-letters-full",
                hint="look at `headwater-edge dead-letters`, and purge them",
            )
        if not self._subscribed and reading and now - self._opened > _ANSWER_S:
            raise BrokerLost("the broker does not answer", reason="no-answer")
        if self._subscribed and self._canary_s and now - (self._canary_sent or 0.0) >= self._canary_s:
            self._canary = secrets.token_bytes(8).hex().encode()
            if self.publish(self._canary_topic, self._canary, now):
                self._canary_sent = now
        if self._keep_alive_s and now - self._wrote >= self._keep_alive_s / 2:
            self.write(packets.PINGREQ, now)
        if not reading:
            self._heard = self._seen = now
        elif self._canary_s and now - self._seen > self._terms.canary_timeout_s:
            raise BrokerLost(
                f"no message came for {now - self._seen:.0f} s, and not the canary either, though the connection is open",
                reason="silent",
                hint=""
                if self._canary_works
                else f"may its user publish to and subscribe to {self._canary_topic.decode()}? "
                'If the broker cannot allow that, set canary = "0s"',
            )
        elif self._keep_alive_s and now - self._heard > 1.5 * self._keep_alive_s:
            raise BrokerLost(f"nothing came for {now - self._heard:.0f} s", reason="silent")

    def _control(self, data: bytes, at: int, found: tuple[int, int], burst: BrokerBurst, now: float) -> None:
        kind, flags = data[at] >> 4, data[at] & 15
        if (
            self.number and kind == PUBREL and flags == 2
        ):  # with a reason code; the short ones are cut in `take`
            burst.releases(self.number, [read_pubrel(data, *found, self._v5)])
            return
        if flags or (not self.number and kind not in {protocol.CONNACK, protocol.DISCONNECT}):
            raise BadPacket(f"a packet that begins with 0x{data[at]:02x}", reason="packet-type")
        if kind == protocol.CONNACK and not self.number:
            self._connack(packets.read_connack(data, *found, self._v5), burst, now)
        elif kind == protocol.SUBACK:
            self._suback(packets.read_suback("SUBACK", data, *found, self._v5), burst, now)
        elif kind == protocol.DISCONNECT and self._v5:
            code, why = packets.read_disconnect(data, *found)
            reason = "taken-over" if code == packets.TAKEN_OVER else "disconnect"
            hint = packets.HINTS.get(code, "")
            raise BrokerLost(f"the broker ended the connection: {why}", reason=reason, hint=hint)
        elif kind == protocol.PUBACK:
            self._outgoing.answered(read_puback(data, *found))
        elif kind not in {protocol.PINGRESP, protocol.UNSUBACK}:
            raise BadPacket(f"a packet that begins with 0x{data[at]:02x}", reason="packet-type")

    def _connack(self, answer: packets.Connack, burst: BrokerBurst, now: float) -> None:
        if answer.code:
            hint = packets.HINTS.get(answer.code, "")
            raise BrokerLost(f"the broker refuses: {answer.why}", reason="refused", hint=hint)
        self.client_id = answer.assigned or self.client_id
        self._max_packet = answer.max_packet or packets.LONGEST
        self._outgoing.allow(answer.receive_maximum)
        if answer.keep_alive_s >= 0:
            self._keep_alive_s = answer.keep_alive_s
        self.number = next(self._numbers)
        event = Connect(
            self.number,
            session_name(self._settings.name),
            self._settings.user,
            clean=not answer.session_present,
            expiry_s=NEVER,  # the broker says whether the session is there, not our clock
        )
        burst.events.append((len(burst.topics), event))
        old = self._remembered()
        if old is not None and not answer.session_present:
            self._counts.sessions_lost += 1
            log.warning(
                "the broker has lost the session, and what it held for this agent",
                broker=self._settings.name,
                hint="let the broker keep sessions on its disk (Mosquitto: persistence true)",
            )
        self._subscribe(old if old is not None and answer.session_present else {}, burst, now)

    def _subscribe(self, old: Mapping[str, int], burst: BrokerBurst, now: float) -> None:
        """Subscribe to all there is, and give up what older settings had in a session that is still there (R9)."""
        settings = self._settings
        self._asked = list(settings.filters)
        wanted: list[tuple[str, int]] = [(topic, settings.qos) for topic in settings.filters]
        if self._canary_s:
            self._asked.append(self._canary_topic.decode())
            wanted.append((self._asked[-1], 0))
        given_up = [topic for topic in old if topic not in settings.filters]
        if given_up:
            self.write(packets.unsubscribe(self._v5, _UNSUBSCRIBE_ID, given_up), now)
            burst.events.append((len(burst.topics), Unsubscribe(self.number, given_up)))
        self.write(packets.subscribe(self._v5, _SUBSCRIBE_ID, wanted), now)

    def _suback(self, answer: packets.Suback, burst: BrokerBurst, now: float) -> None:
        if answer.packet_id != _SUBSCRIBE_ID or len(answer.codes) != len(self._asked):
            raise BadPacket("a SUBACK for nothing that was asked", reason="suback")
        codes = dict(zip(self._asked, answer.codes, strict=True))
        canary = codes.pop(self._canary_topic.decode(), 0) if self._canary_s else 0
        refused = {topic: packets.meaning(code) for topic, code in codes.items() if code > 2}
        granted = [(topic, code) for topic, code in codes.items() if code <= 2]
        name = self._settings.name
        for topic, why in refused.items():
            log.error("the broker refuses a filter", broker=name, filter=topic, why=why)
        if not granted:
            why = next(iter(refused.values()))
            raise BrokerLost(
                f"the broker refuses every filter: {why}",
                reason="filters-refused",
                hint="let the broker's access list allow this user to read them",
            )
        for topic, qos in granted:
            if qos < self._settings.qos:
                log.warning(
                    "the broker grants less than was asked for; what it sends so may be lost",
                    broker=name,
                    filter=topic,
                    qos=qos,
                )
        if canary > 2:
            log.warning(
                "the broker refuses the canary; whether it delivers is not watched",
                broker=name,
                topic=self._canary_topic.decode(),
            )
            self._canary_s = 0.0
        self._counts.refused = refused
        burst.events.append((len(burst.topics), Subscribe(self.number, granted)))
        self._subscribed, self._seen = True, now

    def _sift(self, burst: BrokerBurst, now: float) -> None:
        """Take out canaries and retained messages (R9): they are acknowledged as all others, and no readings."""
        kept: list[int] = []
        ids = burst.packet_ids
        for at, (topic, flags) in enumerate(zip(burst.topics, burst.flags, strict=True)):
            if topic.startswith(CANARY):
                self._canary_seen(topic, burst.payloads[at], now)
            elif flags & RETAIN:
                self._counts.retained += 1
            else:
                kept.append(at)
            if ids[at] and not (kept and kept[-1] == at):
                burst.skipped.append((len(kept), ids[at]))
        if len(kept) == len(burst.topics):
            return
        if not kept and not burst.skipped:
            burst.owed = 0  # nothing but canaries: they make no tick
        burst.events = [(sum(at < before for at in kept), event) for before, event in burst.events]
        burst.topics = [burst.topics[at] for at in kept]
        burst.payloads = [burst.payloads[at] for at in kept]
        burst.packet_ids = [ids[at] for at in kept]
        burst.flags = [burst.flags[at] for at in kept]

    def _canary_seen(self, topic: bytes, payload: bytes, now: float) -> None:
        if topic == self._canary_topic and payload == self._canary and self._canary_sent is not None:
            self._canary_works = True
            self._counts.canaries += 1
            self._counts.canary_s = now - self._canary_sent
