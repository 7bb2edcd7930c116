"""The courier: takes notifications up from the cloud's file, which it only reads, and has each route deliver them.

A thread of the cloud's process; of several processes on one file, of the one that has the lock of `notify.db`: the others try again
each few seconds, so that what a killed one left is sent by another.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from headwater_cloud import posted
from headwater_cloud.alertmanager import Alertmanager
from headwater_cloud.notify_file import Cursor, Taken, Wanted
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_route import Delivered, Route, moment
from headwater_cloud.notify_settings import Rules
from headwater_cloud.notify_store import NotifyStore
from headwater_cloud.notify_words import Ack
from headwater_cloud.outputs import Notification, as_repeat
from headwater_cloud.send_timed import TimedSend
from headwater_cloud.sending import Send
from headwater_cloud.store import APPLICATION, VERSION, trouble
from headwater_shared.clock import Clock
from headwater_shared.errors import HeadwaterError, StateInUse, TryAgain
from headwater_shared.logs import get_logger
from headwater_shared.sqlite_file import open_reader

log = get_logger()

_CHUNK = 500
"""Rows of one commit at most."""
_POLL_S = 0.25
"""How often the cloud's file is looked at, where another process writes it."""
_TRY_S = 3.0
"""How often the lock is tried, and the file after trouble."""
_TIDY_US = 300_000_000
_DAY_US = 86_400_000_000
"""Of what was perhaps told before, for the file that would know is gone: what is older is not told again."""
_KEPT_US = 30 * _DAY_US
"""How long it is known at least what was told: the log, from which the cloud's file can be made anew, goes back less."""


class Courier:
    """All routes of one process, and the file that they share. `step` is one look; `start` runs it in a thread.

    Args:
        path: of the courier's own file.
        cloud: of the cloud's file, which is there by the time of the first step.
        send_of: makes what a route sends by.
        ack: makes the link that acknowledges, for routes to Alertmanager.
        alone: whether this process writes the cloud's file alone, and wakes the courier.
    """

    def __init__(
        self, path: Path, cloud: Path, routes: Sequence[Rules], zones: Zones, clock: Clock, send_of: Callable[[Rules], Send], *,
        alone: bool = True, ack: Ack = lambda _: "",
    ) -> None:  # fmt: skip
        self.path = path
        self.routes: dict[str, Route | Alertmanager] = {}
        """By name, while this process has the file."""
        self.store: NotifyStore | None = None
        self.trouble = ""
        """Why it does not work; empty while it does, or while another process has the file."""
        self.opened: Callable[[], None] = lambda: None
        """Called when this process has the file."""
        self.delivered: Delivered = lambda _route, _began_us, _now_us, _trace: None
        """Called when a route took the first message of an incident."""
        self.took: Callable[[str, float], None] = lambda _route, _took_s: None
        """Called with how long the receiver of a route took."""
        self._cloud, self._rules, self._zones, self._clock, self._send_of = (
            cloud,
            routes,
            zones,
            clock,
            send_of,
        )
        self._ack = ack
        self._wait_s = 5.0 if alone else _POLL_S
        self._reader: sqlite3.Connection | None = None
        self._checked = False
        self._threads = False
        self._tidied_us = 0
        self._news = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Take the file, and look at the cloud's once, before anything is written there by this process: so what comes later is known to be new.

        Whatever keeps it from that, `start` tries again: nothing but notifications waits for it.
        """
        try:
            if self.open():
                self.step()
        except HeadwaterError as error:
            self.trouble = f"notifications wait: {error}"
            log.error("the courier cannot begin", error=error)
            self._let_go()

    def open(self) -> bool:
        """Take the file, if no other process has it. Tells whether it is ours.

        Raises:
            StateNewer, StateError: it is not for this version, or damaged.
        """
        if self.store is not None:
            return True
        try:
            self.store = NotifyStore(self.path, moment(self._clock).real_us)
        except StateInUse:
            return False
        self._checked = False
        posted.only(self.store, [rules.name for rules in self._rules])
        for rules in self._rules:
            self.routes[rules.name] = route = self._route(rules, self.store)
            if self._threads:
                route.start()
        self.opened()
        return True

    def _route(self, rules: Rules, store: NotifyStore) -> Route | Alertmanager:
        if rules.settings.to == "alertmanager":
            return Alertmanager(
                rules, self._cloud, store, self._clock, self._zones, self._ack, self._news.set
            )
        send = TimedSend(self._send_of(rules), lambda took_s: self.took(rules.name, took_s))
        route = Route(rules, send, store, self._clock, self._zones, broke=self._news.set)
        route.delivered = lambda *told: self.delivered(*told)  # noqa: PLW0108 - it is set later
        return route

    def step(self) -> int:
        """Take up what is new, up to a chunk. Returns how many rows of the cloud's table were read.

        Raises:
            TryAgain, StartAgain, StateError: a file cannot be read, or written.
        """
        assert self.store is not None
        try:
            rows = self._read()
        except sqlite3.Error as error:
            self._let_go_of_reader()
            raise trouble(self._cloud, error) from error
        if rows:
            self._take(rows)
        for route in self.routes.values():
            if rows or isinstance(route, Alertmanager):  # which looks for itself, after what is told is known
                route.wake()
        return len(rows)

    def deliver(self) -> None:
        """Do, in this thread, all that is to be done now: what threads do else."""
        while self.step():
            pass
        for route in self.routes.values():
            while route.step() == 0:
                pass

    def start(self) -> None:
        """Go on in a thread, and each route in one of its own."""
        self._threads = True
        for route in self.routes.values():
            route.start()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is news in the cloud's file."""
        self._news.set()

    def close(self) -> None:
        """Stop, and let the file go; what cannot be delivered at once waits in it."""
        self._over.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()
            with suppress(HeadwaterError):  # of the last commits of this process
                while self.store is not None and self.step():
                    pass
        self._let_go()

    def status(self) -> dict[str, Any]:
        """What `/health` says of it: of each route what waits, failed and why; `holds`: whether this process is the one that sends."""
        store = self.store
        if store is None:
            return {"holds": False, "routes": {}}
        with suppress(sqlite3.Error):  # it is being let go of
            waits = waiting_by_route(store.rows)
            shown_us = moment(self._clock).shown_us
            found = {}
            for name, route in list(self.routes.items()):
                waiting, refused, oldest_us = waits.get(name, (0, 0, 0))
                age_s = max(0.0, (shown_us - oldest_us) / 1e6) if waiting else 0.0
                found[name] = {
                    "waiting": waiting,
                    "refused": refused,
                    "oldest_s": round(age_s, 1),
                    **route.status(),
                }
            return {"holds": True, "routes": found}
        return {"holds": False, "routes": {}}

    def troubles(self) -> list[str]:
        """What is wrong, in a sentence each."""
        found = [self.trouble] if self.trouble else []
        for name, route in list(self.routes.items()):
            if route.failing:
                found.append(f"notifications do not go out by {name!r}: {route.failing}")
        return found

    def _read(self) -> list[tuple[int, str, int, str]]:
        """Read number, id, time and body of what is new in the cloud's table."""
        assert self.store is not None
        if self._reader is None:
            if not self._cloud.exists():
                return []
            self._reader = open_reader(self._cloud, application=APPLICATION, version=VERSION)
        query = self._reader.execute
        cursor = self.store.cursor()
        if cursor is None:
            (newest,) = query("SELECT max(n) FROM notification").fetchone()
            cursor = Cursor(0, "", newest or 0)
            self.store.set_cursor(cursor)
        elif cursor.n and not self._checked:
            row = query("SELECT id FROM notification WHERE n = ?", (cursor.n,)).fetchone()
            if row != (cursor.id,):  # another file, or it went back; ids say what is known
                cursor = Cursor(0, "", 0)
                self.store.set_cursor(cursor)
        self._checked = True
        return query(
            "SELECT n, id, time_us, body FROM notification WHERE n > ? ORDER BY n LIMIT ?", (cursor.n, _CHUNK)
        ).fetchall()

    def _take(self, rows: Sequence[tuple[int, str, int, str]]) -> None:
        assert self.store is not None
        cursor = self.store.cursor()
        shown_us, now_us = moment(self._clock)
        found = []
        for n, id_, time_us, body in rows:
            one = _notification(id_, time_us, body)
            wanted = [
                Wanted(rules.name, now_us + rules.digest_us)
                for rules in self._rules
                if rules.settings.to != "alertmanager" and rules.wants(one, shown_us, self._zones)
            ]
            if cursor is not None and n <= cursor.unknown:
                one = as_repeat(one)
                if 0 < time_us < shown_us - _DAY_US:
                    wanted = []
            found.append(Taken(n, one, wanted))
        self.store.take(found, shown_us, now_us)

    def _tidy(self) -> None:
        """Now and then, forget what the cloud's file has forgotten long ago."""
        assert self.store is not None
        shown_us, now_us = moment(self._clock)
        if self._reader is None or 0 <= now_us - self._tidied_us < _TIDY_US:
            return
        gone = [
            n
            for n, id_ in self.store.done(shown_us - _KEPT_US, _CHUNK)
            if not self._reader.execute("SELECT 1 FROM notification WHERE id = ?", (id_,)).fetchone()
        ]
        self.store.forget(gone, now_us - _DAY_US)
        self.store.drop([rules.name for rules in self._rules], shown_us - _KEPT_US)
        self._tidied_us = now_us

    def _run(self) -> None:
        while not self._over.is_set():
            self._news.clear()
            wait_s = self._wait_s
            try:
                if not self.open():
                    wait_s = _TRY_S
                elif (
                    broken := next((one.broken for one in self.routes.values() if one.broken), None)
                ) is not None:
                    raise broken
                elif self.step():
                    wait_s = 0.0
                else:
                    self._tidy()
                self.trouble = ""
            except TryAgain as error:
                self.trouble = f"notifications wait: {error.message}"
                log.warning("the courier tries again", error=error)
                wait_s = _TRY_S
            except Exception as error:  # noqa: BLE001 - whatever it is, a thread that ended would tell nobody
                self.trouble = f"notifications wait: {error}"
                log.error("the courier begins again from its file", error=error)
                self._let_go()
                wait_s = _TRY_S
            if wait_s and not self._over.is_set():
                self._news.wait(wait_s)

    def _let_go(self) -> None:
        for route in self.routes.values():
            route.end()  # all at once
        for route in self.routes.values():
            route.close()
        self.routes = {}
        self._let_go_of_reader()
        if self.store is not None:
            self.store.close()
            self.store = None

    def _let_go_of_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _notification(id_: str, time_us: int, body: str) -> Notification:
    """Read a notification; of one that cannot be read, which a newer version wrote, people hear that there is one."""
    try:
        return msgspec.json.decode(body, type=Notification)
    except (msgspec.DecodeError, ValueError) as error:
        log.error("a notification cannot be read", id=id_, error=str(error))
        text = "something is to be told that this version cannot read: see `headwater alerts`"
        return Notification(id_, id_, "firing", "unreadable", id_, "warning", text, 0.0, time_us, time_us)


def waiting_by_route(rows: Callable[[str], Sequence[Any]]) -> Mapping[str, tuple[int, int, int]]:
    """By route: how many wait, how many were refused, and since when the oldest waits (microseconds)."""
    found = rows(
        "SELECT d.route, sum(d.state != 'refused'), sum(d.state = 'refused'), min(CASE WHEN d.state != 'refused' THEN t.taken_us END)"
        " FROM delivery d JOIN notification t ON t.n = d.n WHERE d.state != 'sent' GROUP BY d.route"
    )
    return {
        route: (waiting or 0, refused or 0, oldest_us or 0) for route, waiting, refused, oldest_us in found
    }
