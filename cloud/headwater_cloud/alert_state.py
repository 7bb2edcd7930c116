"""All alerts of a shard in memory, and as pieces: rows by key, what people did by key, what was told by site (R24)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import chain

import msgspec

from headwater_cloud.alert_rows import OPEN, AlertRow, site_of_key
from headwater_cloud.book import Book, Inhibit
from headwater_cloud.incidents import Incident, Site, Told
from headwater_cloud.mutes import matches, scope_of
from headwater_shared.alert_records import Action

_FEW, _MANY = 12, 24
"""Rows of a key: beyond the second they stand in sixteen pieces, by their ids, at the first again in one."""
_ACTIONS = 100
"""Of a key: the latest ones."""


class KeyAlerts:
    """The alerts of one key, by id, and what people did with them."""

    __slots__ = ("actions", "events", "rows", "spread")

    def __init__(self) -> None:
        self.rows: dict[str, AlertRow] = {}
        self.events: dict[str, int] = {}
        """How many events there were of each."""
        self.actions: dict[str, Action] = {}
        self.spread = False
        """Whether its rows stand in sixteen pieces."""

    def add(self, action: Action) -> bool:
        """Take up an action; tell whether it is new and recent enough to be kept."""
        if action.id in self.actions:
            return False
        self.actions[action.id] = action
        if len(self.actions) > _ACTIONS:
            oldest = min(self.actions.values(), key=_when)
            del self.actions[oldest.id]
        return action.id in self.actions

    def of_rows(self) -> dict[str, list[Action]]:
        """Return what people did by the alert that it is for, in the order of its times.

        An alert that has another id by now is the one of the same rule and subject that covers the begin of the one that was meant.
        """
        found: dict[str, list[Action]] = {}
        for action in sorted(self.actions.values(), key=_when):
            row = self.meant(action)
            if row is not None:
                found.setdefault(row.id, []).append(action)
        return found

    def meant(self, action: Action) -> AlertRow | None:
        """Return the alert that an action is for, None while there is none."""
        if action.alert in self.rows:
            return self.rows[action.alert]
        covering = [
            row
            for row in self.rows.values()
            if (row.rule, row.subject) == (action.rule, action.subject)
            and row.begin_us <= action.begin_us
            and (row.end_us is None or action.begin_us <= row.end_us)
        ]
        return max(covering, key=lambda row: (row.begin_us, row.id), default=None)


class AlertState:
    """The alerts of one shard. The indexes are made anew from rows and what was told."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyAlerts] = {}
        self.sites: dict[str, Site] = {}
        self.timers: list[tuple[int, str]] = []
        """A heap of times by the shard's clock, and the key (`@SITE`: the site) that is looked at then."""
        self.opens: dict[tuple[str, str], dict[str, str]] = {}
        """Keys by id, of alerts that are open, by site and rule."""
        self.inhibitors: dict[tuple[str, str], dict[str, AlertRow]] = {}
        self._wholes: dict[str, set[str]] = {}
        """By site: keys with actions for whole incidents."""
        self.silent: frozenset[str] = frozenset()
        self.clock_us = 0
        self.book: Book | None = None
        """The one that all open alerts were judged by; None: they are to be judged anew."""
        self._told: dict[str, list[Told]] = {}
        self._ready = False

    def key(self, name: str) -> KeyAlerts:
        """Return a key's alerts, none of one that is new."""
        found = self.keys.get(name)
        if found is None:
            found = self.keys[name] = KeyAlerts()
        return found

    def rows(self) -> Iterable[AlertRow]:
        """All alerts of the shard."""
        return chain.from_iterable(key.rows.values() for key in self.keys.values())

    def site(self, name: str, group_us: int) -> Site:
        """Return a site's incidents, none of one that is new."""
        found = self.sites.get(name)
        if found is None:
            found = self.sites[name] = Site(name, group_us)
        return found

    def put(self, row: AlertRow, book: Book) -> None:
        """Write a row into its key and the indexes."""
        self.key(row.key).rows[row.id] = row
        of = self.opens.setdefault((row.site, row.rule), {})
        if row.state in OPEN or row.state == "pending":
            of[row.id] = row.key
        else:
            of.pop(row.id, None)
        for inhibit in book.inhibit:
            if inhibit.by == row.rule:
                self.inhibitors.setdefault((row.rule, scope_of(row, inhibit)), {})[row.id] = row

    def drop(self, row: AlertRow, book: Book) -> None:
        """Take a row out of its key and the indexes."""
        key = self.key(row.key)
        key.rows.pop(row.id, None)
        key.events.pop(row.id, None)
        self.opens.get((row.site, row.rule), {}).pop(row.id, None)
        for inhibit in book.inhibit:
            self.inhibitors.get((row.rule, scope_of(row, inhibit)), {}).pop(row.id, None)

    def add(self, action: Action) -> bool:
        """Take up what a person did; tell whether it is new."""
        if action.whole:
            self._wholes.setdefault(site_of_key(action.key), set()).add(action.key)
        return self.key(action.key).add(action)

    def wholes(self, group_us: int) -> dict[str, tuple[Incident, list[Action]]]:
        """Return, by id of an incident, what people did with all of it."""
        found: dict[str, tuple[Incident, list[Action]]] = {}
        for name, keys in self._wholes.items():
            for key in (self.key(one) for one in keys):
                for action in key.actions.values():
                    row = key.meant(action) if action.whole else None
                    incident = self.site(name, group_us).of(row) if row is not None else None
                    if incident is not None:
                        found.setdefault(incident.told.id, (incident, []))[1].append(action)
        return found

    def muted_by(self, scope: str, inhibit: Inhibit) -> list[AlertRow]:
        """Return the open alerts of a site or device that a rule of the book mutes while another one fires."""
        found = []
        for (site, rule), of in self.opens.items():
            if site == site_of_key(scope) and matches(rule, inhibit.rules):
                rows = (self.key(key).rows[at] for at, key in of.items())
                found += [row for row in rows if scope_of(row, inhibit) == scope]
        return found

    def judge_by(self, book: Book) -> bool:
        """Go by a book; tell whether it is another one than before, so that all open alerts are to be judged anew."""
        if not self._ready:
            fired: dict[str, list[AlertRow]] = {name: [] for name in self._told}
            for row in self.rows():
                if row.incident:
                    fired.setdefault(row.site, []).append(row)
            for name, rows in fired.items():
                self.site(name, book.alerts.group_us).restore(self._told.pop(name, []), rows)
                self.after(0, "@" + name)
            for key, of in self.keys.items():
                if any(action.whole for action in of.actions.values()):
                    self._wholes.setdefault(site_of_key(key), set()).add(key)
            self._ready = True
        if book is self.book or book == self.book:
            return False
        self.book = book
        self.opens, self.inhibitors = {}, {}
        for row in list(self.rows()):
            self.put(row, book)
        for site in self.sites.values():
            site.regroup(book.alerts.group_us)
        return True

    def after(self, time_us: int, what: str) -> None:
        """Look at a key, or at `@SITE`, when the clock is there."""
        heapq.heappush(self.timers, (time_us, what))

    def due(self, now_us: int) -> set[str]:
        """Return the keys and sites that are to be looked at now."""
        found = set()
        while self.timers and self.timers[0][0] <= now_us:
            found.add(heapq.heappop(self.timers)[1])
        return found

    def pieces(
        self, changed: Iterable[AlertRow], acted: Iterable[str], sites: Iterable[str]
    ) -> dict[str, bytes]:
        """Encode what holds the rows named, as they were or as they are, the actions of keys, and what was told of sites."""
        of_keys: dict[str, set[str]] = {}
        for row in changed:
            of_keys.setdefault(row.key, set()).add(row.id[:1])
        out = {}
        for name, heads in of_keys.items():
            out.update(_row_pieces(name, self.keys[name], heads))
        for name in acted:
            out[f"acts/{name}"] = msgspec.msgpack.encode(list(self.keys[name].actions.values()))
        for name in sites:
            out[f"incidents/{name}"] = self.sites[name].encoded(self.clock_us)
        return out

    def load(self, kind: str, rest: str, body: bytes) -> None:
        """Take up a piece of a key or site: `alerts`, `alerts#3`, `acts` or `incidents`."""
        kind, _, head = kind.partition("#")
        if kind == "alerts":
            key, rows = self.key(rest), msgspec.msgpack.decode(body, type=list[tuple[AlertRow, int]])
            key.rows.update((row.id, row) for row, _ in rows)
            key.events.update((row.id, number) for row, number in rows)
            key.spread = key.spread or bool(head and rows)
        elif kind == "acts":
            actions = msgspec.msgpack.decode(body, type=list[Action])
            self.key(rest).actions.update((action.id, action) for action in actions)
        else:
            self._told[rest] = msgspec.msgpack.decode(body, type=list[Told])


def _row_pieces(name: str, key: KeyAlerts, heads: set[str]) -> dict[str, bytes]:
    """Encode the pieces of a key whose rows' ids begin with one of `heads`; where it changes how it is spread, all of them."""
    rows = [(row, key.events.get(row.id, 0)) for row in key.rows.values()]
    spread = len(rows) > (_FEW if key.spread else _MANY)
    turned, key.spread = spread != key.spread, spread
    out = {}
    if spread:
        for head in "0123456789abcdef" if turned else heads:
            out[f"alerts#{head}/{name}"] = msgspec.msgpack.encode(
                [one for one in rows if one[0].id[:1] == head]
            )
        if turned:
            out[f"alerts/{name}"] = msgspec.msgpack.encode([])
    else:
        out[f"alerts/{name}"] = msgspec.msgpack.encode(rows)
        if turned:
            out.update((f"alerts#{head}/{name}", msgspec.msgpack.encode([])) for head in "0123456789abcdef")
    return out


def _when(action: Action) -> tuple[int, str]:
    return action.time_us, action.id
