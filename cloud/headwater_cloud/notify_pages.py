"""What the courier answers over HTTP, beside health and metrics: links that acknowledge, and `headwater notify test | retry`.

Of several processes on one file only one has the courier's file: the others hand on what they are asked, to where `notify.json` says.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from headwater_cloud import ack_page
from headwater_cloud.ack_links import PATH as ACK
from headwater_cloud.ack_links import AckLinks
from headwater_cloud.ack_page import Acknowledge
from headwater_cloud.courier import Courier
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_route import moment
from headwater_cloud.outputs import Notification
from headwater_cloud.place import say_where
from headwater_cloud.sending import Message
from headwater_shared.clock import Clock
from headwater_shared.health import Answered, Asked, Page

PLACE = "notify.json"
"""In the data folder: where the process answers that has the courier's file."""
NOTIFY = "/notify/"
HEADER = "X-Headwater"
"""Must be there: no page of another site can make a browser send it."""

_TIMEOUT_S = 60.0


class NotifyPages:
    """The pages of one process.

    Args:
        data: the data folder.
        acknowledge: puts an acknowledgement on the bus.
    """

    def __init__(
        self,
        courier: Courier,
        data: Path,
        links: AckLinks,
        zones: Zones,
        clock: Clock,
        acknowledge: Acknowledge,
    ) -> None:
        self._courier, self._place, self._links, self._zones = courier, data / PLACE, links, zones
        self._clock, self._acknowledge = clock, acknowledge
        self._port = 0

    def pages(self) -> Mapping[str, Page]:
        return {ACK: self._ack, NOTIFY: self._notify}

    def at(self, port: int) -> None:
        """Say where this process answers, now or as soon as it has the courier's file."""
        self._port = port
        self._courier.opened = lambda: say_where(self._place, port)
        if self._courier.store is not None:
            self._courier.opened()

    def _ack(self, asked: Asked) -> Answered:
        store = self._courier.store
        if store is None:
            return self._handed_on(asked)
        return ack_page.answer(asked, store, self._links, self._zones, self._clock, self._acknowledge)

    def _notify(self, asked: Asked) -> Answered:
        if asked.method != "POST" or HEADER.lower() not in asked.headers:
            return _json(403, {"error": f"post it, with the header {HEADER}: `headwater notify` does"})
        store = self._courier.store
        if store is None:
            return self._handed_on(asked)
        url = urlsplit(asked.path)
        name = parse_qs(url.query).get("route", [""])[0]
        routes = [route for route in self._courier.routes.values() if name in {"", route.rules.name}]
        if name and not routes:
            return _json(
                404, {"error": f"there is no route {name!r}; there are {', '.join(self._courier.routes)}"}
            )
        if url.path == NOTIFY + "test":
            shown_us = moment(self._clock).shown_us
            message = message_of_test(shown_us)
            return _json(
                200,
                {"id": message.id, "routes": {route.rules.name: route.try_out(message) for route in routes}},
            )
        if url.path == NOTIFY + "retry":
            count = store.retry(name, moment(self._clock).real_us)
            for route in routes:
                route.hurry()
            return _json(200, {"retried": count})
        return _json(404, {"error": f"{NOTIFY}test or {NOTIFY}retry"})

    def _handed_on(self, asked: Asked) -> Answered:
        """Ask the process that has the courier's file."""
        try:
            port = int(msgspec.json.decode(self._place.read_bytes())["health"])
        except (OSError, ValueError, KeyError, msgspec.DecodeError):
            port = 0
        if port in {0, self._port}:
            return _later()
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        headers = {HEADER: "handed on"} if HEADER.lower() in asked.headers else {}
        try:
            made.request(asked.method, asked.path, asked.body or None, headers)
            found = made.getresponse()
            kept = {name: text for name, text in found.getheaders() if name in ack_page.HEADERS}
            return Answered(found.status, found.getheader("Content-Type", "text/plain"), found.read(), kept)
        except (OSError, http.client.HTTPException):
            return _later()
        finally:
            made.close()


def message_of_test(shown_us: int) -> Message:
    """Say nothing but that a route works."""
    one = Notification(
        id=f"{ack_page.TEST}{shown_us}", alert="test", state="firing", rule="test", subject="test/test/test", severity="info",
        text="a test: notifications reach you this way", value=0.0, begin_us=shown_us, time_us=shown_us, sure="nothing is wrong",
    )  # fmt: skip
    return Message(one.id, (one,))


def _later() -> Answered:
    return _json(
        503, {"error": "the process that sends notifications does not answer now: try again in a few seconds"}
    )


def _json(status: int, said: object) -> Answered:
    return Answered(status, "application/json", msgspec.json.encode(said) + b"\n")
