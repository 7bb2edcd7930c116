"""One HTTP connection: bytes become requests, answers go out in the order of the requests, and what is too much ends it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import httptools

from headwater_edge.connection import HABIT
from headwater_edge.http_answers import CONTINUE
from headwater_edge.http_exchange import Desk, Request
from headwater_edge.http_request import LONGEST_HEAD, Headers, NotTaken, read_head, too_long

IN_FLIGHT = 64
"""Requests of one connection that may be there and unanswered: who sends more of them ahead is not read meanwhile."""
_LINGER_S = 2.0
"""After the last answer to one who still sends: closing at once would reset the connection, and the answer be lost."""
_HOP_BY_HOP = {b"connection", b"upgrade", b"http2-settings"}


class HttpConnection(asyncio.Protocol):
    """Feeds a parser, whose callbacks (`on_...`) make requests. Decides nothing but what belongs to the wire."""

    def __init__(self, desk: Desk, address: str) -> None:
        self.address = address
        self.client = ""
        self.since = self.answered = desk.now()
        """Monotonic seconds: when what is waited for began (a request, the rest of one, the end); when last an answer
        was written, or the connection made."""
        self.one_by_one = HABIT
        """How often in a row it sent one request as soon as it had the answer to the one before."""
        self.leaving = False
        """Nothing more is read or written."""
        self.stuck = False
        """The client does not read our answers."""
        self.requests: deque[Request] = deque()
        """Not yet answered, in the order in which they came; the last may be on its way in."""
        self._desk = desk
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._over = False
        """No further request is read."""
        self._ended = False
        """The client will send nothing more."""
        self._begun = self._in_head = False
        self._current: Request | None = None
        """The request of which the body is on its way in."""
        self._head_size = self._skipped = 0
        self._target = b""
        self._headers: Headers = []

    @property
    def late_since(self) -> float | None:
        """Since when the rest of a request is waited for, if it is."""
        return self.since if self._begun and self._reading and not self._over else None

    # From the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take in what the client sent."""
        self._desk.counts.bytes += len(data)
        if self.leaving or self._over:
            self._skip(len(data))
            return
        was_in_head = self._in_head
        self._feed(data)
        if was_in_head and self._in_head:  # a header without end is shown to nobody until it ends
            self._count_head(len(data))
        self.flush()

    def eof_received(self) -> bool:
        """Answer what a client sent before it closed its side; under TLS both sides close at once."""
        self._ended = True
        if self._begun and not self._over:
            self.give_up(NotTaken(400, "malformed", "the request ends too early", ends=True))
        tls = self._transport is not None and self._transport.get_extra_info("sslcontext") is not None
        return bool(self.requests) and not tls

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it; what is in a burst is committed, and its answer goes nowhere (R5)."""
        self._transport = None
        self.leaving = True
        for request in self.requests:
            if not request.messages:
                self._desk.release(request)
        self.requests.clear()
        self._desk.lost(self)

    def pause_writing(self) -> None:
        """The client does not read."""
        self.stuck = True
        self.since = self._desk.now()
        self._regulate()

    def resume_writing(self) -> None:
        """It reads again."""
        self.stuck = False
        self._regulate()

    # From the parser; what is wrong is kept in the request, for the parser takes no exceptions.

    def on_message_begin(self) -> None:
        self._begun = self._in_head = True
        self._head_size = self._skipped = 0
        self._target, self._headers = b"", []
        self.since = self._desk.now()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:  # else it is a trailer, and means nothing to us
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._over or self._parser.should_upgrade():  # the latter comes once more, without that wish
            return
        version = self._parser.get_http_version()
        request = self._current = Request(self, self._desk.number(), old=version == "1.0")
        request.expects = version == "1.1" and any(name == b"expect" for name, _ in self._headers)
        self.requests.append(request)
        method = self._parser.get_method()
        request.bare = method == b"HEAD"
        try:
            request.head = read_head(method, self._target, version, self._headers, self._desk.max_body)
            self._desk.begun(request)
        except NotTaken as error:
            self._refuse(request, error)

    def on_body(self, piece: bytes) -> None:
        request = self._current
        if self._over or request is None:
            return
        if request.error is not None:
            self._skipped += len(piece)
            if self._skipped > self._desk.max_body:
                self._end(request, request.error)
            return
        request.body += piece
        try:
            self._desk.book(request, len(piece))
            if len(request.body) > self._desk.max_body:
                raise too_long(self._desk.max_body)
        except NotTaken as error:
            self._refuse(request, error)

    def on_message_complete(self) -> None:
        request, self._current = self._current, None
        if self._over or request is None:
            return
        self._begun = False
        request.complete = True
        request.last = self._over = not self._parser.should_keep_alive()
        self._settle(request)

    # What becomes of a request.

    def checked(self, request: Request) -> None:
        """Go on with one of which `begun` left open whose it is."""
        request.checking = False
        if request.error is not None:
            self._refuse(request, request.error)
        self._settle(request)
        self.flush()

    def give_up(self, error: NotTaken) -> None:
        """Answer the request that is on its way in, or would be, with an error, and leave."""
        request = self._current
        if request is None:
            request = Request(self, self._desk.number())
            self.requests.append(request)
        self._desk.release(request)
        self._end(request, error)
        self.flush()

    def flush(self) -> None:
        """Write the answers whose turn it is."""
        out: list[bytes] = []
        while self.requests and not self.leaving:
            request = self.requests[0]
            if not request.answer:
                if request.expects and not (request.checking or request.complete or request.body):
                    request.expects = False
                    out.append(CONTINUE)
                break
            out.append(request.answer)
            self.requests.popleft()
            self.since = self.answered = self._desk.now()
            if request.last or (self._ended and not self.requests):
                self._leave(at_once=request.complete or self._ended, last=b"".join(out))
                return
        if out and self._transport is not None:
            self._transport.write(b"".join(out))
        self._regulate()

    def close(self) -> None:
        """End it; answers that were written still go out."""
        self.leaving = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it, and leave what was written to its fate."""
        self.leaving = True
        if self._transport is not None:
            self._transport.abort()

    def _settle(self, request: Request) -> None:
        """Take a request that is there as a whole and whose sender is known, or refuse it."""
        if self.leaving or request.checking or request.answer or not request.complete:
            return
        if request.error is None:
            try:
                self._desk.completed(request)
            except NotTaken as error:
                self._refuse(request, error)
        else:
            self._desk.turn_down(request, request.error)

    def _refuse(self, request: Request, error: NotTaken) -> None:
        """Note that it is refused: at once if what follows is not read, else once it is there as a whole."""
        request.error = error
        self._desk.release(request)
        if request.complete:
            self._settle(request)
        elif error.ends or request.expects:
            self._end(request, error)

    def _end(self, request: Request, error: NotTaken) -> None:
        """Answer it with an error at once; what the client sends from now on is not read."""
        request.error = error
        request.last = self._over = True
        if not request.answer:
            self._desk.turn_down(request, error)

    # The wire.

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self.abort()
            asyncio.get_running_loop().call_soon(_raise, error.__context__ or error)
        except httptools.HttpParserError as error:
            if not self._over:
                self.give_up(NotTaken(400, "malformed", f"this is no HTTP/1.1: {error}", ends=True))

    def _without_upgrade(self, rest: bytes) -> None:
        """Serve a request that would rather speak another protocol as if it had not said so (RFC 9110, 7.8)."""
        method, closes = self._parser.get_method(), not self._parser.should_keep_alive()
        if method == b"CONNECT" or self.requests:
            self.give_up(NotTaken(400, "malformed", "this is no proxy", ends=True))
            return
        head = [b"%s %s HTTP/1.1" % (method, self._target)]
        head += [b"%s: %s" % line for line in self._headers if line[0] not in _HOP_BY_HOP]
        head += [b"connection: close"] * closes
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join(head) + b"\r\n\r\n" + rest)

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > LONGEST_HEAD and not self._over:
            hint = f"request line and headers may have {LONGEST_HEAD} bytes"
            self.give_up(NotTaken(431, "too-long", "the head is too long", hint=hint, ends=True))

    def _regulate(self) -> None:
        """Read on, or do not."""
        checking = any(request.checking for request in self.requests)
        whole = len(self.requests) - (self._current is not None)
        wanted = whole < IN_FLIGHT and not checking and not self.stuck
        if wanted == self._reading or self._transport is None:
            return
        self._reading = wanted
        if wanted:
            self.since = self._desk.now()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _leave(self, last: bytes, *, at_once: bool) -> None:
        """Write the last answers; close at once, or when a client that still sends has had time to see them."""
        self.leaving = True
        assert self._transport is not None
        self._transport.write(last)
        if at_once:
            self._transport.close()
            return
        if not self._reading:
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._skipped = 0
        asyncio.get_running_loop().call_later(_LINGER_S, self.close)

    def _skip(self, size: int) -> None:
        self._skipped += size
        if self._skipped > self._desk.max_body:
            self.abort()


def _raise(error: BaseException) -> None:
    """Raise a programming error of ours where it ends the process: a burst may be half made (see `process._unexpected`)."""
    raise error
