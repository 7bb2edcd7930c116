"""Local alerts: what a tick found reaches a person with no cloud; at least once, whatever crashes.

An alert is written with the commit of the tick that found it, sent after that, and its row goes once it is delivered. A crash
in between sends it again after the start, under the same id, marked `possible_repeat` (R29). No tick and no
acknowledgement waits for any of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from headwater_edge.alert_routes import Letter, Route, Send
from headwater_edge.alert_settings import AlertSettings
from headwater_edge.alert_words import (
    RANKS,
    Words,
    as_repeat,
    body_of,
    of_anomaly,
    of_device,
    of_test,
    topic_words,
)
from headwater_edge.output import Output
from headwater_edge.store import AlertRow, Chores, read_store
from headwater_edge.topic_templates import filled
from headwater_edge.traced import context_of
from headwater_shared.errors import HeadwaterError, Refused
from headwater_shared.logs import get_logger
from headwater_shared.records import Anomaly
from headwater_shared.trace import trace_of

log = get_logger()

TakeAlong = Callable[[Chores], None]


class Alerts:
    """All ways of one agent.

    Args:
        settings: checked.
        take_along: leaves chores for the next transaction, or for one of their own.
    """

    def __init__(self, settings: Sequence[AlertSettings], take_along: TakeAlong) -> None:
        self._settings = settings
        self._take_along = take_along
        self.routes: dict[str, Route] = {}
        """By name, once started."""
        self.nowhere = 0
        """Alerts of ways that the settings do not have any more, and damaged ones."""

    def rows_of(self, output: Output) -> list[AlertRow]:
        """Return what the transaction of a tick writes; called in the writer's thread, and pure."""
        if not self._settings or not (output.anomalies or output.devices):
            return []
        words: list[Words] = [
            msgspec.structs.replace(of_anomaly(one), trace=trace_of(context_of(one)))
            for one in output.anomalies
        ]
        words += [said for one in output.devices for said in of_device(one)]
        return [row for one in words for row in self._rows(one)]

    def committed(self, rows: Sequence[AlertRow]) -> None:
        """These are on disk: send them."""
        for row in rows:
            self.routes[row.route].put(Letter(row.key, row.topic, row.body))

    def provisional(self, anomaly: Anomaly) -> None:
        """Send what was found by readings that wait for the disk: unjournaled, so a crash forgets it (R18)."""
        for row in self._rows(of_anomaly(anomaly), provisional=True):
            self.routes[row.route].put(Letter(f"{row.key}/provisional", row.topic, row.body, kept=False))

    async def try_out(self, name: str, agent: str, now_us: int) -> dict[str, str]:
        """Send a test by one way, or by all (""); return what became of each: "" if it was delivered, else why not.

        Raises:
            Refused: there is no such way.
        """
        chosen = [route for route in self.routes.values() if name in {"", route.settings.name}]
        if not chosen:
            raise Refused(
                f"there is no alert {name!r}" if name else "there is no [[edge.alert]] in the settings",
                hint=f"there are {', '.join(self.routes)}" if self.routes else "docs/alerts.md shows some",
            )
        words, found = of_test(agent, now_us), {}
        for route in chosen:
            topic = filled(route.settings.topic, topic_words(words))
            try:
                await route.try_out(Letter(words.key, topic, body_of(words), kept=False))
                found[route.settings.name] = ""
            except HeadwaterError as error:
                found[route.settings.name] = error.message
        return found

    def start(self, path: Path, send_of: Callable[[AlertSettings], Send]) -> None:
        """Begin to send: first what the agent before had not delivered, as far as it is known."""
        for one in self._settings:
            self.routes[one.name] = Route(one, send_of(one), self._forgets(one.name))
        with closing(read_store(path)) as reader:
            left = waiting(reader)
        gone = [
            (row.route, row.key) for row in left if row.route not in self.routes or not as_repeat(row.body)
        ]
        if gone:
            self.nowhere += len(gone)
            log.warning(
                "alerts of an [[edge.alert]] that is gone, or damaged ones, are dropped", dropped=len(gone)
            )
            self._take_along(Chores(alerts_gone=gone))
        for row in left:
            if row.route in self.routes and (body := as_repeat(row.body)):
                self.routes[row.route].put(Letter(row.key, row.topic, body))
        for route in self.routes.values():
            route.start()

    async def close(self) -> None:
        for route in self.routes.values():
            await route.close()

    def status(self) -> dict[str, Mapping[str, Any]]:
        """Return what a person sees of each way."""
        return {
            f"alert {name}": {
                "to": route.settings.to,
                "sent": route.sent,
                "waiting": route.waiting,
                "dropped": route.dropped,
                "refused": route.refused,
                "failures": route.failures,
                "failing": route.failing,
            }
            for name, route in self.routes.items()
        }

    def troubles(self) -> list[str]:
        """Return what is wrong, in a sentence each."""
        return [
            f"alerts do not go out by {name!r}: {route.failing}; {route.waiting} wait"
            for name, route in self.routes.items()
            if route.failing and route.waiting
        ]

    def _rows(self, words: Words, *, provisional: bool = False) -> list[AlertRow]:
        found = []
        for one in self._settings:
            if RANKS.get(words.severity, 1) < RANKS[one.severity] or (words.phase == "end" and not one.ends):
                continue
            if not _fits(words.rule, one.rules) or not _fits(words.subject, one.series):
                continue
            said = _provisional(words) if provisional else words
            found.append(AlertRow(one.name, words.key, filled(one.topic, topic_words(words)), body_of(said)))
        return found

    def _forgets(self, route: str) -> Callable[[str], None]:
        return lambda key: self._take_along(Chores(alerts_gone=[(route, key)]))


def waiting(reader: sqlite3.Connection) -> list[AlertRow]:
    """Return the alerts that are not known to be delivered, oldest first."""
    rows = reader.execute("SELECT route, key, topic, body FROM alert ORDER BY n")
    return [AlertRow(*row) for row in rows]


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _provisional(words: Words) -> Words:
    return msgspec.structs.replace(words, provisional=True)
