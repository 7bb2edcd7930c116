"""One HTTP request, as bytes and without a socket: what it asks for, which messages are in it, or why it is not taken."""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from headwater_shared.errors import Refused
from headwater_shared.identity import valid_name

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, in the order sent."""

LONGEST_HEAD = 16_384
"""Bytes of request line and headers."""
MOST_LINES = 10_000
"""Messages in one request: they are one tick's, whole."""
_KEY = re.compile(rb"[!-~]{1,255}")
_ONCE = (
    b"host",
    b"transfer-encoding",
    b"content-type",
    b"content-encoding",
    b"authorization",
    b"idempotency-key",
    b"expect",
)
"""Headers of which a second one would leave open what is meant."""
_LINES = {b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/jsonlines", b"application/x-jsonlines"}  # fmt: skip
_PACKED = {b"gzip", b"x-gzip"}
_WHERE = "POST /hw/{site}/{device}/data, or /hw/{site}/{device}/data/{metric}: the path is the MQTT topic"


class NotTaken(Refused):
    """Nothing of the request is taken. `reason` is counted; `ends`: what follows on the connection cannot be read."""

    def __init__(
        self, status: int, reason: str, message: str, *, hint: str = "", retry_s: int = 0, ends: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.retry_s = retry_s
        """Seconds after which the same request may be taken; 0 if it will not."""
        self.ends = ends


class Head(NamedTuple):
    """What request line and headers say."""

    topic: str
    lines: bool
    """The body is a message a line."""
    packed: bool
    """The body is gzip."""
    key: bytes
    """The idempotency key; empty if there is none."""
    authorization: bytes


def read_head(method: bytes, target: bytes, version: str, headers: Headers, max_body: int) -> Head:
    """Read what the parser found; framing errors are the parser's.

    Raises:
        NotTaken: 400, 403, 404, 405, 411, 413, 415, 417 or 505.
    """
    found = dict(headers)
    if len(found) < len(headers):
        _check_doubles(headers)
    _check_framing(version, found)
    if method != b"POST":
        raise NotTaken(405, "method", f"{method.decode()} is not POST", hint=_WHERE)
    if b"origin" in found:
        raise NotTaken(
            403, "browser", "a web page may not post readings", hint="post from a program: one sends no Origin header"
        )  # fmt: skip
    topic = _topic(target)
    if b"transfer-encoding" not in found and b"content-length" not in found:
        hint = "send one of them"
        raise NotTaken(411, "length", "there is neither Content-Length nor Transfer-Encoding", hint=hint)
    if int(found.get(b"content-length", b"0")) > max_body:
        raise too_long(max_body)
    kind = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind.startswith(b"multipart/"):
        raise NotTaken(
            415, "type", "a multipart form is no payload", hint="send the payload as the body: curl --data-binary @FILE"
        )  # fmt: skip
    packed = found.get(b"content-encoding", b"").strip().lower()
    if packed not in {b"", b"identity", *_PACKED}:
        hint = "send gzip, or the plain body"
        raise NotTaken(415, "encoding", "a Content-Encoding other than gzip", hint=hint)
    authorization = found.get(b"authorization", b"").strip()
    return Head(topic, kind in _LINES, packed in _PACKED, _key(found), authorization)


def _check_doubles(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise NotTaken(400, "malformed", f"the header {name.decode()} stands there twice", ends=True)


def _check_framing(version: str, found: dict[bytes, bytes]) -> None:
    """Refuse what the parser lets pass, and what could mean something else to whoever stands between."""
    coding, expects = found.get(b"transfer-encoding"), found.get(b"expect")
    if version not in {"1.1", "1.0"}:
        raise NotTaken(505, "version", f"HTTP/{version}", hint="speak HTTP/1.1", ends=True)
    if version == "1.1" and not found.get(b"host", b"").strip():
        raise NotTaken(400, "malformed", "there is no Host header", hint="HTTP/1.1 demands one", ends=True)
    if version == "1.0" and coding is not None:
        raise NotTaken(400, "malformed", "HTTP/1.0 has no Transfer-Encoding", ends=True)
    if coding is not None and coding.strip().lower() != b"chunked":
        raise NotTaken(415, "encoding", "a Transfer-Encoding other than chunked", ends=True)
    if expects is not None and expects.strip().lower() != b"100-continue":
        raise NotTaken(417, "expect", "an Expect header other than 100-continue", ends=True)


def too_long(max_body: int) -> NotTaken:
    """Make what is said of a body that is longer than may be."""
    hint = "send it in several requests, or raise edge.http.max_body"
    return NotTaken(413, "too-long", f"a body of more than {max_body} bytes", hint=hint, ends=True)


def names_a_device(topic: str) -> bool:
    """Tell whether a topic is one of a device's own: `hw/{site}/{device}/data`, with a metric or without."""
    words = topic.split("/")
    ours = len(words) in (4, 5) and words[0] == "hw" and words[3] == "data"
    return ours and all(map(valid_name, words[1:]))


def no_such_topic(topic: str) -> NotTaken:
    """Make what is said of a path that is no topic of ours."""
    return NotTaken(404, "topic", f"/{topic[:200]} is no topic that is read", hint=_WHERE)


def messages(head: Head, body: bytes, max_body: int) -> tuple[list[bytes], int]:
    """Return the payloads in a body, and the hash of what was sent that its idempotency key stands for (0 without one).

    Raises:
        NotTaken: 400 or 413.
    """
    if head.packed:
        body = _unpacked(body, max_body)
    content = hash64(b"lines" if head.lines else b"", body) if head.key else 0
    if not head.lines:
        return [body], content
    payloads = [line for line in (line.strip(b" \t\r") for line in body.split(b"\n")) if line]
    if not payloads:
        raise NotTaken(400, "empty", "there is no line in it", hint="send a JSON value a line")
    if len(payloads) > MOST_LINES:
        raise NotTaken(
            413, "too-many", f"{len(payloads)} messages in one request", hint=f"send at most {MOST_LINES} in one"
        )  # fmt: skip
    return payloads, content


def hash64(*parts: bytes) -> int:
    """Hash some parts to 64 bits; where one ends counts."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return int.from_bytes(whole.digest(), "little")


def _topic(target: bytes) -> str:
    path = target
    if not target.startswith(b"/"):  # a proxy's form: http://host/path
        path = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    try:
        return unquote_to_bytes(path.partition(b"?")[0][1:]).decode()
    except UnicodeDecodeError:
        raise NotTaken(
            400, "malformed", "the path is no UTF-8", hint="write it so, in percent-encoding"
        ) from None


def _key(found: dict[bytes, bytes]) -> bytes:
    if b"idempotency-key" not in found:
        return b""
    key = found[b"idempotency-key"].strip()
    if not _KEY.fullmatch(key):
        raise NotTaken(
            400, "key", "the Idempotency-Key is not 1 to 255 visible ASCII characters", hint="a UUID is a good one"
        )  # fmt: skip
    return key


def _unpacked(body: bytes, max_body: int) -> bytes:
    """Unpack gzip of one or more members, to so many bytes at most."""
    out = b""
    try:
        while True:
            unpack = zlib.decompressobj(31)
            out += unpack.decompress(body, max_body + 1 - len(out))
            if len(out) > max_body:
                raise too_long(max_body)
            if not unpack.eof:
                raise NotTaken(400, "gzip", "the gzip ends too early", hint="send it whole")
            body = unpack.unused_data
            if not body:
                return out
    except zlib.error as error:
        raise NotTaken(400, "gzip", f"no gzip: {error}", hint="or leave Content-Encoding out") from None
