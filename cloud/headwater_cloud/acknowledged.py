"""What somebody acknowledged by a link goes to `hw-in`, as a person's action."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from headwater_cloud import acting, alert_history
from headwater_cloud.ack_page import Acknowledged
from headwater_cloud.history import History
from headwater_shared.bus import Bus
from headwater_shared.errors import TryAgain
from headwater_shared.identity import stable_id


def acknowledged(open_bus: Callable[[], Bus], file: Path, done: Acknowledged) -> None:
    """Put an acknowledgement on the bus, of all of the incident that the message spoke of; again, it is the same action.

    Args:
        file: the cloud's, which says where the alert is.

    Raises:
        Refused: the alert is not known, or over. TryAgain, BusUnavailable: try again.
    """
    said = done.notification
    try:
        with closing(History(file)) as history:
            alert = alert_history.alert(history.connection, said.alert)
    except sqlite3.Error as error:
        raise TryAgain(f"the alert cannot be looked up now: {error}") from error
    action = acting.action_of(alert, "ack", done.who, "by a link", done.time_us, whole=said.members > 1)
    action = msgspec.structs.replace(action, id=stable_id("ack-link", said.id))
    with closing(open_bus()) as bus:
        acting.send(bus, action)
