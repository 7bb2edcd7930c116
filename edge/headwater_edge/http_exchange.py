"""What an HTTP connection and the source of which it is one say to each other: requests, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headwater_edge.http_request import NotTaken

if TYPE_CHECKING:
    from headwater_edge.http_connection import HttpConnection
    from headwater_edge.http_counts import HttpCounts
    from headwater_edge.http_request import Head
    from headwater_edge.http_users import Guest

AGAIN_S = 5
"""Seconds after which one for whom there is no room may try again."""


class Request:
    """One request, from its head to its answer."""

    __slots__ = (
        "answer", "bare", "body", "checking", "complete", "connection", "error", "expects", "guest", "head", "last", "messages",
        "number", "old", "size",
    )  # fmt: skip

    def __init__(self, connection: HttpConnection, number: int, *, old: bool = False) -> None:
        self.connection = connection
        self.number = number
        """None twice in an epoch: that of the run of its messages."""
        self.old = old
        """It came with HTTP/1.0."""
        self.bare = False
        """Its answer is to have no body."""
        self.head: Head | None = None
        self.expects = False
        """Its sender waits for us to say that the body may come."""
        self.guest: Guest | None = None
        self.checking = False
        """Whose it is is being found out."""
        self.body = bytearray()
        self.size = 0
        """Bytes of it that are booked as being in memory."""
        self.messages = 0
        """So many of it are in a burst."""
        self.complete = False
        self.error: NotTaken | None = None
        self.answer = b""
        self.last = False
        """Nothing is read behind it."""


class Desk(Protocol):
    """What a connection asks of its source."""

    counts: HttpCounts
    max_body: int

    def now(self) -> float:
        """Monotonic seconds."""

    def number(self) -> int: ...

    def begun(self, request: Request) -> None:
        """Its head is there: find out whose it is, at once or later (`checking`, then `checked` of its connection).

        Raises:
            NotTaken: it is refused.
        """

    def book(self, request: Request, size: int) -> None:
        """So many more bytes of it are in memory.

        Raises:
            NotTaken: they are too many.
        """

    def release(self, request: Request) -> None:
        """Nothing of it is in memory."""

    def completed(self, request: Request) -> None:
        """It is there as a whole: take it; its answer comes after the commit.

        Raises:
            NotTaken: it is refused.
        """

    def turn_down(self, request: Request, error: NotTaken) -> None:
        """Give it an answer that says why it is not taken."""

    def lost(self, connection: HttpConnection) -> None:
        """The connection is over."""


def no_room(reason: str, why: str) -> NotTaken:
    """Make what is said to one who has to come again: nothing is lost, for nothing was acknowledged (R18)."""
    return NotTaken(503, reason, f"not now: {why}", hint="send the same again, later", retry_s=AGAIN_S)
