"""Who may come in: decides on a CONNECT by version, client id, user and password, and the number of connections."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from headwater_edge.control import ConnectRequest
from headwater_edge.protocol import (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_ID_INVALID,
    NOT_AUTHORIZED,
    QUOTA_EXCEEDED,
)
from headwater_shared.errors import Refused

_LONGEST_NAME = 256
"""Characters of a client id or user; they go into the journal."""
_LONGEST_WILL = 4_096
"""Bytes of a will, topic and payload: it goes into the journal and into every snapshot."""


class NotAdmitted(Refused):
    """The client is turned away with a CONNACK. `reason` is counted, `code` the MQTT 5 reason code; no secret in it."""

    def __init__(self, message: str, *, reason: str, code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.code = code


class Admitted(NamedTuple):
    """Under which client id a client comes in, and the id that it was given if it brought none."""

    client: str
    assigned: str


class Admission:
    """The rules; `users` holds passwords by user name, none means that anyone may come in."""

    def __init__(self, users: Mapping[str, str], max_connections: int) -> None:
        self._users = {user: password.encode() for user, password in users.items()}
        self._max_connections = max_connections

    def admit(self, request: ConnectRequest, others: int) -> Admitted:
        """Let a client in; `others` are the clients that are connected and stay so.

        Raises:
            NotAdmitted: with the code that the client is told.
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
        self._check_password(request)
        if request.will is not None and len(request.will.topic) + len(request.will.payload) > _LONGEST_WILL:
            message = f"a will of more than {_LONGEST_WILL} bytes"
            raise NotAdmitted(message, reason="will-size", code=QUOTA_EXCEEDED)
        if others >= self._max_connections:
            raise NotAdmitted(
                f"{others} clients are connected, that is all",
                reason="max-connections",
                code=QUOTA_EXCEEDED,
                hint="raise edge.listener.max_connections",
            )
        assigned = "" if client else f"auto-{secrets.token_hex(8)}"
        return Admitted(client or assigned, assigned)

    def _check_password(self, request: ConnectRequest) -> None:
        if not self._users:
            return
        wanted = self._users.get(request.user or "")
        same = hmac.compare_digest(wanted or b"", request.password or b"")
        if wanted is None or request.password is None or not same:
            raise NotAdmitted(
                f"wrong password, or no such user: {request.user!r}",
                reason="password",
                code=NOT_AUTHORIZED,
                hint="compare the device's user and password with edge.users in the settings",
            )
