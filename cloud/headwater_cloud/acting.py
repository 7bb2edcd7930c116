"""What a person does with an alert, from the command line to the bus (`hw-in`, the shard of the alert)."""

from __future__ import annotations

import secrets
import sqlite3

from headwater_cloud import alert_history
from headwater_cloud.alert_history import OPEN
from headwater_cloud.query import iso
from headwater_cloud.views import AlertView
from headwater_shared.actions import record_of, wrong
from headwater_shared.alert_records import Action, Doing
from headwater_shared.bus import Bus
from headwater_shared.errors import BusUnavailable, Refused

SOURCE = "headwater-cloud/alerts"


def meant(connection: sqlite3.Connection, name: str) -> tuple[AlertView, bool]:
    """Return the alert that a person names, and whether it is an incident that was named: then one of its alerts, an open one first.

    Raises:
        Refused: there is none, or there are several.
    """
    try:
        return alert_history.alert(connection, name), False
    except Refused as error:
        try:
            incident = alert_history.incident(connection, name)
        except Refused:
            raise error from None
    states = (*OPEN, "resolved")
    some = alert_history.alerts(connection, states, incident=incident.id)
    return min(some, key=lambda one: (one.state not in OPEN, one.episode_us, one.id)), True


def action_of(
    alert: AlertView, what: Doing, who: str, why: str, now_us: int, until_us: int = 0, *, whole: bool = False
) -> Action:
    """Make an action.

    Raises:
        Refused: nothing can be done of the kind with this alert, or the words are too long.
    """
    if what != "comment" and alert.state == "resolved":
        raise Refused(
            f"alert {alert.id[:12]} of {alert.subject} is {alert.state} since {iso(alert.time_us)}",
            hint='there is nothing left to do; `headwater alerts comment ID "..."` notes something',
        )
    if not alert.key or alert.shard < 0:
        raise Refused(
            f"alert {alert.id[:12]} is of a version before alerts could be acted on",
            hint="it ends when its anomaly does",
        )
    action = Action(
        secrets.token_hex(16), alert.shard, alert.id, alert.key, alert.rule, alert.subject, alert.episode_us,
        what, whole, who, why, now_us, until_us,
    )  # fmt: skip
    if fault := wrong(action):
        raise Refused(fault, hint="write less, or more")
    return action


def send(bus: Bus, action: Action) -> None:
    """Put an action on the bus.

    Raises:
        BusUnavailable: it may be there or not.
    """
    try:
        bus.append([record_of(action, SOURCE)])
    except BusUnavailable as error:
        raise BusUnavailable(
            f"whether it was noted is not known: {error.message}",
            hint="do it again once the bus answers: what is done twice is done",
        ) from error
