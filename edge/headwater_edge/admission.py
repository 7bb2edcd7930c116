"""Who may come in: decides on a CONNECT by version, client id, certificate or user and password, and the number of connections;
and what it may say once it is in.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from headwater_edge.allowed import Allowed
from headwater_edge.connection import Connection, ListenerBurst
from headwater_edge.control import ConnectRequest
from headwater_edge.protocol import (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_ID_INVALID,
    CONNECTION_RATE,
    NOT_ALLOWED,
    NOT_AUTHORIZED,
    QUOTA_EXCEEDED,
    BadPacket,
)
from headwater_edge.users import Grant, Users, WrongPassword
from headwater_shared.errors import Refused

_LONGEST_NAME = 256
"""Characters of a client id or user; they go into the journal."""
_LONGEST_WILL = 4_096
"""Bytes of a will, topic and payload: it goes into the journal and into every snapshot."""
_MORE = "if it should: `headwater-edge user grant`, or edge.grants in the settings"
_ANSWER_S = 1.0
"""How long one whose password is wrong waits for the answer, at least: whoever asks again at once is slowed down."""


class NotAdmitted(Refused):
    """The client is turned away with a CONNACK, after `wait_s` seconds.

    `reason` is counted, `code` the MQTT 5 reason code; no secret in it.
    """

    def __init__(self, message: str, *, reason: str, code: int, hint: str = "", wait_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.code = code
        self.wait_s = wait_s


class NotGranted(BadPacket):
    """The client speaks for a device that it may not speak for: its connection ends, the message is not taken."""


class Undecided(Exception):
    """The password must be tried first (`Users.try_out`); then the same CONNECT is read again."""

    def __init__(self, user: str, password: bytes) -> None:
        super().__init__(user)
        self.user = user
        self.password = password


class Admitted(NamedTuple):
    """Under which name a client comes in, the client id that it was given if it brought none, and what it may speak for.

    The name is its client id, and, where it had to say who it is, its user too: nobody takes over another user's session.
    """

    client: str
    assigned: str
    grant: Grant | None


class Admission:
    """The rules; without users anyone may come in, and say anything."""

    def __init__(self, users: Users, max_connections: int) -> None:
        self._users = users
        self.allowed = Allowed()
        """Which devices may speak."""
        self._max_connections = max_connections

    def admit(self, request: ConnectRequest, connection: Connection) -> Admitted:
        """Let a client in, or not.

        Raises:
            NotAdmitted: with the code that the client is told.
            Undecided: not yet; nothing has changed.
        """
        client = request.client
        if request.authentication:
            raise NotAdmitted(
                "it asks for an authentication exchange; there is only user and password",
                reason="authentication-method",
                code=BAD_AUTHENTICATION_METHOD,
            )
        if not client and not request.v5 and not request.clean:
            raise NotAdmitted(
                "an empty client id without a clean session",
                reason="client-id",
                code=CLIENT_ID_INVALID,
                hint="give the device a client id of its own",
            )
        if len(client) > _LONGEST_NAME or len(request.user or "") > _LONGEST_NAME:
            message = f"a client id or user of more than {_LONGEST_NAME} characters"
            raise NotAdmitted(message, reason="client-id", code=CLIENT_ID_INVALID)
        if request.will is not None and len(request.will.topic) + len(request.will.payload) > _LONGEST_WILL:
            message = f"a will of more than {_LONGEST_WILL} bytes"
            raise NotAdmitted(message, reason="will-size", code=QUOTA_EXCEEDED)
        grant = self._who(request, connection)
        if grant is not None and request.will is not None and not grant.allows(request.will.topic):
            raise NotAdmitted(
                f"{grant.user!r} may not publish its will to {_shown(request.will.topic)}",
                reason="not-allowed",
                code=NOT_ALLOWED,
                hint=_MORE,
            )
        self._must_be_listed(grant, request)
        assigned = "" if client else f"auto-{secrets.token_hex(8)}"
        name = client or assigned
        return Admitted(name if grant is None else f"{grant.user}\0{name}", assigned, grant)

    def _must_be_listed(self, grant: Grant | None, request: ConnectRequest) -> None:
        """Turn away whom the list of devices leaves out, as far as a CONNECT says which device it is: by its user, who speaks
        for the device of that name only, or by the topic of its will. Of all others their readings tell.
        """
        self.allowed.refresh()
        if not self.allowed:
            return
        if grant is not None and grant.own and not self.allowed.allows_any(grant.user):
            why = self.allowed.refused(grant.user)
        else:
            words = request.will.topic.decode(errors="replace").split("/") if request.will is not None else []
            if len(words) < 4 or words[0] != "hw" or self.allowed.allows(f"{words[1]}/{words[2]}"):
                return
            why = self.allowed.refused(f"{words[1]}/{words[2]}")
        raise NotAdmitted(
            why, reason="not-listed", code=NOT_ALLOWED, hint="add it to the list, if it should speak"
        )

    def room(self, others: int) -> None:
        """See whether there is room for one more; `others` are the clients that are connected and stay so.

        Raises:
            NotAdmitted: there is none.
        """
        if others >= self._max_connections:
            raise NotAdmitted(
                f"{others} clients are connected, that is all",
                reason="max-connections",
                code=QUOTA_EXCEEDED,
                hint="raise edge.listener.max_connections",
            )

    def _who(self, request: ConnectRequest, connection: Connection) -> Grant | None:
        self._users.refresh()  # the first user may have been added just now
        if connection.identity:
            grant = self._users.grant(connection.identity)
        elif not self._users:
            return None
        else:
            grant = self._by_password(request, connection)
        if grant.nothing:
            raise NotAdmitted(
                f"{grant.user!r} may speak for nothing",
                reason="locked-out",
                code=NOT_ALLOWED,
                hint="give it grants, or find out who has its password or key",
            )
        return grant

    def _by_password(self, request: ConnectRequest, connection: Connection) -> Grant:
        if request.user is None or request.password is None:
            raise NotAdmitted(
                "no user and password, and there are users",
                reason="password",
                code=NOT_AUTHORIZED,
                hint="give the device a user and password; `headwater-edge user add` makes one",
                wait_s=_ANSWER_S,
            )
        try:
            grant = self._users.recall(request.user, request.password, connection.host)
        except WrongPassword as wrong:
            raise NotAdmitted(
                wrong.message,
                reason="password" if wrong.looked else "guessing",
                code=NOT_AUTHORIZED if wrong.looked else CONNECTION_RATE,
                hint=wrong.hint,
                wait_s=max(_ANSWER_S, wrong.wait_s),
            ) from None
        if grant is None:
            raise Undecided(request.user, request.password)
        return grant


def only_granted(grant: Grant, burst: ListenerBurst, begin: int) -> None:
    """Look whether a client may say what stands in the burst from `begin` on; what it may not is taken out, and what follows.

    Raises:
        NotGranted: there was something.
    """
    topics = burst.topics[begin:]
    if grant.known.issuperset(topics):
        return
    for at, topic in enumerate(topics, begin):
        if not grant.allows(topic):
            del burst.topics[at:], burst.payloads[at:], burst.packet_ids[at:], burst.flags[at:]
            raise NotGranted(
                f"{grant.user!r} may not publish to {_shown(topic)}",
                reason="not-allowed",
                code=NOT_ALLOWED,
                hint=_MORE,
            )


def _shown(topic: bytes) -> str:
    return repr(topic[:80].decode(errors="replace"))
