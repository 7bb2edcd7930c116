"""One client's connection: its socket, what of it is not yet cut, what waits for the disk, and what it has not taken."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from headwater_edge.grants import Grant
from headwater_edge.outgoing import Outgoing
from headwater_edge.source import Burst

UNSENT = 1_000_000
"""Bytes of answers that a client may leave unread."""
NOBODY = 0
"""The number of a connection that has not connected; those that have count from 1."""


class NotReading(OSError):
    """The client does not read our answers."""


HABIT = 3
"""Messages one by one after which a sender is taken for one that waits for us; a paced one does so now and then."""


class Connection:
    """The state of one connection. It decides nothing: the listener and the exchange do."""

    __slots__ = (
        "address",
        "after_connack",
        "aliases",
        "answer",
        "answered",
        "assigned",
        "begun",
        "client",
        "connacked",
        "expiry_s",
        "gone",
        "grant",
        "held",
        "hung_up",
        "identity",
        "keep_alive_s",
        "kept",
        "missing",
        "more",
        "number",
        "one_by_one",
        "opened",
        "outgoing",
        "packet_maximum",
        "parts",
        "receive",
        "recheck",
        "releasing",
        "rest",
        "seen",
        "server_keep_alive_s",
        "shaking",
        "sock",
        "subscribed",
        "talk",
        "turned_away",
        "unread",
        "unreleased",
        "unsent",
        "v5",
        "waiting_bytes",
        "waiting_messages",
        "watched",
    )

    def __init__(self, sock: socket.socket, address: str, now: float) -> None:
        self.sock = sock
        self.receive: Callable[[int], bytes] = sock.recv
        self.address = address
        self.number = NOBODY
        self.client = ""
        self.assigned = ""
        """The client id, if it is one that we gave."""
        self.identity = ""
        """What its certificate says that it is, if it has one."""
        self.grant: Grant | None = None
        """What it may speak for; None: anything."""
        self.v5 = False
        self.expiry_s = 0
        self.keep_alive_s = 0
        self.server_keep_alive_s = 0
        """The same, if it is not what the client asked for."""
        self.packet_maximum = 0
        """Bytes of the longest packet that it takes, 0 for any."""
        self.aliases: dict[int, bytes] = {}
        """Topics by alias; they end with the connection."""
        self.outgoing = Outgoing()
        """Of commands to it."""
        self.subscribed = 0
        """Filters that were granted on it."""
        self.unreleased = 0
        """PUBLISHes at QoS 2 without a PUBREL, as far as this connection goes."""
        self.releasing = 0
        """PUBRELs that wait for the commit."""
        self.opened = self.seen = now
        """Monotonic seconds: when it was accepted, and when bytes last came; or when we began to listen again."""
        self.rest = b""
        """The beginning of a packet whose end has not come; what came of it since is in `parts`."""
        self.parts: list[bytes] = []
        self.kept = 0
        """Bytes of both."""
        self.missing = 0
        """Bytes until it can be whole."""
        self.begun = now
        """Monotonic seconds: when it began."""
        self.waiting_messages = 0
        self.waiting_bytes = 0
        """Delivered and not acknowledged; the bytes are those of whole packets."""
        self.held = False
        """So much waits for the disk that it is not read."""
        self.unread = False
        """It has bytes that epoll will not announce again."""
        self.more = False
        """What was last read may not have been all, though it was less than was asked for."""
        self.shaking = False
        """Its TLS handshake is not over."""
        self.recheck = False
        """Its password was tried: `rest` is to be taken again."""
        self.talk = 0
        """Packets of one pass that are neither messages nor belong to any."""
        self.turned_away = False
        """It is not let in, and will hear so in a while."""
        self.hung_up = False
        """The other side has ended or broken it; what it sent before is still to be read."""
        self.gone = False
        self.connacked = False
        self.after_connack = bytearray()
        """Answers that wait for no commit, but may not come before the CONNACK."""
        self.answer = b""
        """What one call of `acknowledge` has for it."""
        self.answered = now
        """Monotonic seconds: when PUBACKs were last written; first, when it was accepted."""
        self.one_by_one = HABIT
        """How often in a row it sent one message as soon as it had the acknowledgement of the one before."""
        self.unsent = bytearray()
        self.watched = False
        """Epoll announces when its socket takes more."""

    @property
    def host(self) -> str:
        """The address without the port."""
        return self.address.rpartition(":")[0]

    @property
    def user(self) -> str:
        """Who it is, if it had to say so."""
        return self.grant.user if self.grant is not None else ""

    def joined(self, data: bytes) -> bytes:
        """What is kept and what came now; nothing while that cannot be a whole packet, so that it is joined once."""
        self.missing -= len(data)
        self.parts.append(data)
        if self.missing > 0:
            return b""
        whole = b"".join((self.rest, *self.parts))
        self.rest = b""
        self.parts.clear()
        return whole

    def keep(self, came: int, taken: int, now: float) -> int:
        """Take note of what is kept once so many bytes came, and so many were looked at; returns how much more that is."""
        before = self.kept
        if not self.rest:
            self.kept = 0
        elif self.parts:
            self.kept += came
        else:
            if not before or taken > len(self.rest):  # another packet than before
                self.begun = now
            self.kept = len(self.rest)
            self.missing = _missing(self.rest)
        return self.kept - before

    def send(self, data: bytes) -> bool:
        """Write without waiting; returns whether bytes are left for when the socket takes more.

        Raises:
            NotReading: more than UNSENT bytes are left.
            OSError: the connection is broken.
        """
        if self.unsent and data:
            self.unsent += (
                data  # tried when epoll says so: whoever does not read is not copied for again and again
            )
        else:
            try:
                sent = self.sock.send(self.unsent or data)
            except BlockingIOError:
                sent = 0
            if self.unsent:
                del self.unsent[:sent]
            elif sent < len(data):
                self.unsent += data[sent:]
        if len(self.unsent) > UNSENT:
            raise NotReading
        return bool(self.unsent)

    def has_bytes(self) -> bool:
        """Whether something waits in the socket."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def hang_up(self, last: bytes) -> None:
        """Say the last words, if they can be said at once, and close."""
        self.gone = True
        try:
            if last and not self.unsent:
                self.sock.send(last)
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.recv(
                65_536
            )  # unread bytes would make the kernel send a reset, which may overtake the last words
        except OSError:
            pass
        self.sock.close()


Reply = tuple[int, Connection, bytes | list[int] | None]
"""(message index that it stands before, connection, what it is owed there): a packet; the packet ids of PUBRELs; None:
the CONNACK, which needs to know whether a session was present.
"""


def _missing(rest: bytes) -> int:
    """Bytes until the packet that begins so is whole; 1 while its length is not there."""
    length = 0
    for at, byte in enumerate(rest[1:5]):
        length |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return max(1, 2 + at + length - len(rest))
    return 1


@dataclass(slots=True)
class ListenerBurst(Burst):
    """A burst that also knows what else than PUBACKs is owed for it."""

    sizes: list[int] = field(default_factory=list)
    """Of each run: bytes of its packets."""
    replies: list[Reply] = field(default_factory=list)
    """Each belongs to an event of the burst."""
