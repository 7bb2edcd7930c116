"""What somebody acknowledged by a link goes to `hw-in`, as a person's action."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headwater_cloud.ack_page import Acknowledged
from headwater_shared.bus import Bus
from headwater_shared.errors import Refused


def acknowledged(open_bus: Callable[[], Bus], file: Path, done: Acknowledged) -> None:
    """Put an acknowledgement on the bus; again, it is the same action.

    Args:
        file: the cloud's, which says where the alert is.

    Raises:
        Refused: the alert is not known. BusUnavailable: try again.
    """
    raise Refused("alerts cannot be acknowledged yet")
