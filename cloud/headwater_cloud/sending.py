"""What a route is given to send, and how it says that it could not: the interface of `send_file`, `send_webhook`, `send_apprise`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from headwater_cloud.outputs import Notification
from headwater_shared.errors import Refused, TryAgain


class Message(NamedTuple):
    """What goes out at once: one notification, or a digest of several. `possible_repeat` stands in each that may have gone out before."""

    id: str
    """Of one notification its id; of a digest the route's name and number of it. The same each time that it is sent."""
    some: tuple[Notification, ...]


class Failed(TryAgain):
    """It was not delivered, or perhaps was (not `certain`); `after_s`: the other side wants to be left alone for so long."""

    def __init__(self, message: str, *, hint: str = "", certain: bool = True, after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.certain = certain
        self.after_s = after_s


class RefusedBySome(Refused):
    """Some addresses will never take it, and the others have it."""


class Send(Protocol):
    """One way to people. Calls do not overlap."""

    def send(self, message: Message) -> None:
        """Deliver a message.

        Raises:
            Failed: not now.
            Refused: never, this one; others may go.
        """
