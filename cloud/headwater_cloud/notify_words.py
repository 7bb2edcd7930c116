"""What a message says to a person: two lines of what, where, since when, how sure and what to do, and a link to acknowledge it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Literal, NamedTuple

from headwater_cloud.notify import iso
from headwater_cloud.notify_file import about
from headwater_cloud.notify_hours import Zones, local
from headwater_cloud.notify_settings import RANKS, site_of
from headwater_cloud.outputs import Notification
from headwater_cloud.sending import Message

SHOWN = 10
"""Lines of a digest; how many more there are is said."""

Ack = Callable[[Notification], str]
"""Makes the link that acknowledges what a notification is of; "" if there is none."""

_STATES = {"firing": "", "growing": "growing", "escalated": "nobody acknowledged", "resolved": "over"}


class Words(NamedTuple):
    """A message for people: a title of one line, and lines of text."""

    title: str
    lines: tuple[str, ...]
    kind: Literal["info", "success", "warning", "failure"]
    ack: str = ""
    """The link that acknowledges it, if there is one; it stands in the lines, too."""


def words_of(message: Message, zones: Zones, zone: tzinfo | None, ack: Ack) -> Words:
    """Say a message, in the time of the route's zone, or of the site's."""
    if len(message.some) == 1:
        one = message.some[0]
        return _of_one(one, zone or zones.of(site_of(one)), ack(one) if _to_acknowledge(one) else "")
    return _of_many(message.some, lambda one: zone or zones.of(site_of(one)))


def _of_one(one: Notification, zone: tzinfo, ack: str) -> Words:
    first = f"{one.text or one.rule}: {_where(one)}, since {when(one.begin_us, zone)}"
    if one.state == "resolved":
        first = f"over since {when(one.time_us, zone)}: {one.text or one.rule}: {_where(one)}, began {when(one.begin_us, zone)}"
    if one.over:
        first += "; it was over already when it was found"
    sure = one.sure or f"value {one.value:g}"
    do = one.do if one.state != "resolved" else ""
    lines = [first, f"{sure}; do: {do}" if do else sure]
    if one.owner:
        lines[1] += f"; owner: {one.owner}"
    more = [link for link in (one.runbook, one.link) if link]
    if more:
        lines.append(f"more: {' '.join(more)}")
    if ack:
        lines.append(f"acknowledge: {ack}")
    return Words(f"{_mark(one)} {one.rule} at {_subject(one)}", tuple(lines), _kind([one]), ack)


def _of_many(some: Sequence[Notification], zone_of: Callable[[Notification], tzinfo]) -> Words:
    newest: dict[str, Notification] = {}
    for one in some:  # of what fired and is over by now, it is enough that it is over
        newest[about(one)] = one
    shown = sorted(
        newest.values(), key=lambda one: (one.state == "resolved", -RANKS.get(one.severity, 1), one.begin_us)
    )
    counts = Counter("over" if one.state == "resolved" else one.severity for one in shown)
    lines = [
        f"{_mark(one)} {one.rule} at {_subject(one)} since {when(one.begin_us, zone_of(one))}: {one.text}"
        for one in shown[:SHOWN]
    ]
    if len(shown) > SHOWN:
        lines.append(f"and {len(shown) - SHOWN} more: `headwater alerts` lists all")
    said = ", ".join(f"{number} {word}" for word, number in counts.items())
    return Words(f"{len(shown)} alerts: {said}", tuple(lines), _kind(shown))


def _to_acknowledge(one: Notification) -> bool:
    return one.state != "resolved" and not one.over


def _mark(one: Notification) -> str:
    words = [
        one.severity,
        _STATES[one.state],
        "over when found" if one.over and one.state != "resolved" else "",
    ]
    marks = f"[{', '.join(word for word in words if word)}]"
    return f"{marks} (possible repeat)" if one.possible_repeat else marks


def _subject(one: Notification) -> str:
    return f"{one.site or one.subject} ({one.members} alerts)" if one.members > 1 else one.subject


def _where(one: Notification) -> str:
    if one.members > 1:
        few = ", ".join(one.devices[:3])
        more = " and others" if len(one.devices) > 3 else ""
        return f"{one.site or one.subject}" + (f" ({few}{more})" if few else "")
    more = ", ".join(word for word in (one.place, one.model) if word)
    return f"{one.subject} ({more})" if more else one.subject


def _kind(some: Sequence[Notification]) -> Literal["info", "success", "warning", "failure"]:
    if all(one.state == "resolved" for one in some):
        return "success"
    worst = max(
        (RANKS.get(one.severity, 1) for one in some if one.state != "resolved" and not one.over), default=0
    )
    return ("info", "warning", "failure")[worst]


def when(at_us: int, zone: tzinfo) -> str:
    """A time as people of a zone write it; in UTC as ISO 8601 where a calendar has no such day."""
    try:
        return f"{local(at_us, zone):%a %d %b %H:%M %Z}"
    except OverflowError:
        return iso(at_us)
