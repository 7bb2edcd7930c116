"""The page behind a link that acknowledges. To look at it changes nothing, for mail scanners follow links; its button does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import NamedTuple
from urllib.parse import parse_qs

from headwater_cloud.ack_links import PATH, AckLinks
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_settings import site_of
from headwater_cloud.notify_store import NotifyStore
from headwater_cloud.notify_words import when, words_of
from headwater_cloud.outputs import Notification
from headwater_cloud.sending import Message
from headwater_shared.clock import Clock
from headwater_shared.errors import HeadwaterError, Refused
from headwater_shared.health import Answered, Asked

TEST = "test/"
"""What ids of tests begin with."""
_LONGEST = 80
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Acknowledged(NamedTuple):
    """A notification that somebody acknowledged by its link. The id is the same whenever it comes again."""

    notification: Notification
    who: str
    time_us: int


Acknowledge = Callable[[Acknowledged], None]
"""Puts it on the bus.

Raises:
    HeadwaterError: it cannot now.
"""


def answer(
    asked: Asked, store: NotifyStore, links: AckLinks, zones: Zones, clock: Clock, acknowledge: Acknowledge
) -> Answered:
    """Show what a link is of, and acknowledge it when the button was pressed."""
    token = asked.path.partition("?")[0].removeprefix(PATH)
    opened = links.read(token)
    if opened.wrong:
        return _page(410 if opened.notification else 404, "Not acknowledged", [opened.wrong])
    if opened.notification.startswith(TEST):
        return _page(200, "The link works", ["It is that of a test: there is nothing to acknowledge."])
    one = store.notification(opened.notification)
    if one is None:
        return _page(410, "Not acknowledged", ["What this link is of is not known here any more."])
    zone = zones.of(site_of(one))
    words = words_of(Message(one.id, (one,)), zones, zone, lambda _: "")
    used = store.used(one.id)
    if used is not None:
        return _page(
            409,
            "Acknowledged already",
            [f"By {used.who}, {when(used.time_us, zone)}, with this link.", words.title],
        )
    if asked.method != "POST":
        return _page(200, words.title, words.lines, token)
    who = parse_qs(asked.body.decode(errors="replace")).get("who", [""])[0].strip()[:_LONGEST] or "somebody"
    now_us = clock.now().wall_us
    try:
        # On the bus first: were the link used up before, a crash would leave an alert that nobody acknowledged. Again, it is the same action.
        acknowledge(Acknowledged(one, who, now_us))
    except Refused as error:
        return _page(409, "Not acknowledged", [error.message, words.title])
    except HeadwaterError as error:
        return _page(
            503, "Not acknowledged yet", [f"{error.message}. Press the button once more in a moment."], token
        )
    store.use(one.id, who, now_us, opened.until_us)
    return _page(200, "Acknowledged", [f"By {who}, {when(now_us, zone)}.", words.title])


def _page(status: int, title: str, lines: Iterable[str], token: str = "") -> Answered:
    said = "".join(f"<p>{escape(line)}</p>" for line in lines)
    form = (
        f'<form method="post" action="{PATH}{escape(token)}"><label>Your name <input name="who" maxlength="{_LONGEST}" autocomplete="name">'
        "</label> <button>Acknowledge</button></form>"
    )
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Headwater: {escape(title)}</title><style>body{{font:1.1em sans-serif;max-width:40em;margin:2em auto;padding:0 1em}}"
        f"button,input{{font:inherit;padding:.3em}}</style><h1>{escape(title)}</h1>{said}{form if token else ''}</html>\n"
    )
    return Answered(status, "text/html; charset=utf-8", body.encode(), HEADERS)
