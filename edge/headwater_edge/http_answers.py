"""The answers of HTTP push as bytes: a JSON body that says what became of the request, or what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from headwater_edge.http_request import NotTaken
from headwater_shared.clock import SYNCHRONISED, Now

if TYPE_CHECKING:
    from headwater_edge.decode import DeadLetter

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_SHOWN = 20
"""Dead letters that an answer shows; it counts all."""
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def taken(messages: int, begin: int, dead: Sequence[DeadLetter], *, repeated: bool) -> dict[str, Any]:
    """Say that a request is on disk: how many messages it brought, and which of them are dead letters.

    Args:
        begin: the index of its first message in the burst, by which `dead` counts.
        repeated: it was taken before, under the same idempotency key.
    """
    body: dict[str, Any] = {"messages": messages, "dead": len(dead)}
    if dead:
        body["dead_letters"] = [
            {"message": letter.message - begin, "reason": letter.reason, "detail": letter.detail}
            for letter in dead[:_SHOWN]
        ]
    return body | {"repeated": True} if repeated else body


def refused(error: NotTaken) -> dict[str, Any]:
    """Say why nothing of a request is taken, and what to do."""
    return {"error": error.message} | ({"hint": error.hint} if error.hint else {})


def answer(status: int, said: dict[str, Any], *headers: bytes, date: bytes, closes: bool) -> bytes:
    """Return the whole answer.

    Args:
        headers: more of them, such as b"Retry-After: 5".
        date: from `date`; empty if there is none.
        closes: no answer comes after it.
    """
    body = msgspec.json.encode(said) + b"\n"
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    if date:
        lines.append(b"Date: " + date)
    lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers]
    if closes:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def headers_of(error: NotTaken) -> list[bytes]:
    """Return the headers that belong to an error."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        return [b'WWW-Authenticate: Basic realm="headwater", charset="UTF-8"']
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return [b"Allow: POST"]
    return [b"Retry-After: %d" % error.retry_s] if error.retry_s else []


def date(now: Now) -> bytes:
    """Return the time as HTTP writes it (RFC 9110, 5.6.7); nothing while our clock is not to be believed."""
    if now.quality != SYNCHRONISED:
        return b""
    t = datetime.fromtimestamp(now.wall_us // 1_000_000, UTC)
    return f"{_DAYS[t.weekday()]}, {t:%d} {_MONTHS[t.month - 1]} {t:%Y %H:%M:%S} GMT".encode()
