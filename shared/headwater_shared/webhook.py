"""An HTTP POST of JSON to an address of the settings, signed if there is a secret: what webhooks of both sides have in common."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, urlsplit

NEVER = frozenset({400, 405, 410, 413, 415, 422})
"""Answers that mean this body, whenever it comes."""


_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""What stays as it is in a header; all else is written as in an address."""


class Answer(NamedTuple):
    """What the other side says."""

    status: int
    retry_after_s: float
    """For how long it wants to be left alone; 0 if it does not say, or says a date."""


class Address:
    """One address.

    Args:
        secret: signs each body (HMAC-SHA256); b"" for none.
    """

    def __init__(self, url: str, secret: bytes, timeout_s: float) -> None:
        self._url = urlsplit(url)
        self._secret = secret
        self.timeout_s = timeout_s
        self.host = self._url.hostname or ""

    def connection(self) -> http.client.HTTPConnection:
        """Make a connection that is not connected yet."""
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self.host, self._url.port, timeout=self.timeout_s, context=context
            )
        return http.client.HTTPConnection(self.host, self._url.port, timeout=self.timeout_s)

    def post(self, made: http.client.HTTPConnection, id_: str, body: bytes, **headers: str) -> Answer:
        """Post a body by a connection, which is used up then; wait for the answer.

        Raises:
            OSError, http.client.HTTPException: there was none.
        """
        more = {
            "Content-Type": "application/json",
            "User-Agent": "Headwater",
            "X-Headwater-Id": quote(
                id_, _PLAIN
            ),  # a route may be named in any letters, and a header holds few
            **headers,
        }
        if self._secret:
            more["X-Headwater-Signature"] = signature(self._secret, body)
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            made.request("POST", path, body, more)
            found = made.getresponse()
            after = found.getheader("Retry-After", "").strip()
            return Answer(found.status, float(after) if after.isdecimal() else 0.0)
        finally:
            made.close()


def signature(secret: bytes, body: bytes) -> str:
    """Return what proves who sent a body: `sha256=` and the HMAC-SHA256 of it in hex."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def cut(made: http.client.HTTPConnection) -> None:
    """End a connection that another thread waits on: a server that sends byte by byte would hold it for ever."""
    if made.sock is not None:
        with suppress(OSError):
            made.sock.shutdown(socket.SHUT_RDWR)
