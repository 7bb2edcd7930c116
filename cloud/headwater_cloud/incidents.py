"""Incidents: alerts of one site whose begins are near each other, by single linkage; what people are told is told of them.

Which alerts belong together is a function of their begins, whatever came first: an alert may join two incidents to one,
one that is withdrawn may part them. What was told is remembered beside, and goes along.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable

import msgspec

from headwater_cloud.alert_rows import OPEN, RANK, AlertRow
from headwater_shared.identity import stable_id

_SETTLED_US = 86_400_000_000
"""What was told of an incident need not be kept once all of it is over and so much older than the clock."""
_MOST = 1_000
"""Incidents of a site in its piece: the newest, and each that people believe open."""


class Told(msgspec.Struct, array_like=True):
    """What people were told of one incident, as its piece holds it. `first_us` and `last_us`: begins of alerts, event time."""

    id: str
    first_us: int
    last_us: int
    said: str = ""
    """What people believe: "firing", "over", "" if they were told nothing."""
    said_us: int = 0
    """The clock when alerts were told last."""
    rank: int = -1
    """Of the worst severity that was told."""
    grown: int = 0
    ended: int = 0
    escalated: int = 0
    """How many messages of each kind there were: they are part of ids."""
    escalated_us: int = 0
    lead: str = ""
    """The alert that was told of first."""
    left: int = 0
    """Alerts that are over and no longer in the state; `left_first_us` to `left_last_us` are their begins."""
    left_first_us: int = 0
    left_last_us: int = 0


class Incident:
    """One incident in memory: what was told, its alerts, and how they stand, counted as they change."""

    __slots__ = ("devices", "late", "news", "open", "ranks", "rows", "told", "unacked")

    def __init__(self, told: Told) -> None:
        self.told = told
        self.rows: dict[str, AlertRow] = {}
        self.open = 0
        """Alerts that people heard of and that are not over."""
        self.news: dict[str, None] = {}
        """Alerts that fire, are not muted, and that nobody heard of."""
        self.ranks: Counter[int] = Counter()
        """How many of these are how bad."""
        self.late: dict[str, None] = {}
        """The same, but over already."""
        self.unacked: Counter[int] = Counter()
        """By when people were told: alerts that fire, not muted, not acknowledged."""
        self.devices: Counter[str] = Counter()

    def put(self, row: AlertRow) -> None:
        """Take an alert up, or what has changed of it."""
        self.drop(row.id)
        self.rows[row.id] = row
        self._count(row, 1)

    def drop(self, row_id: str) -> None:
        """Let go of an alert, if it is one of this incident."""
        before = self.rows.pop(row_id, None)
        if before is not None:
            self._count(before, -1)

    def leave(self, row: AlertRow) -> None:
        """Let go of an alert that stays part of the incident: it is over, and leaves the state."""
        self.drop(row.id)
        told = self.told
        told.left_first_us = min(told.left_first_us, row.begin_us) if told.left else row.begin_us
        told.left_last_us = max(told.left_last_us, row.begin_us) if told.left else row.begin_us
        told.left += 1

    def worst(self, ids: Iterable[str]) -> AlertRow:
        """Return the worst of some alerts, of equal ones the earliest."""
        rows = (self.rows[one] for one in ids)
        return min(rows, key=lambda row: (-RANK.get(row.severity, 1), row.begin_us, row.id))

    def _count(self, row: AlertRow, by: int) -> None:
        self.devices[row.key] += by
        if row.told_us and row.state in OPEN:
            self.open += by
            if row.state == "firing" and not row.muted:
                self.unacked[row.told_us] += by
                if not self.unacked[row.told_us]:
                    del self.unacked[row.told_us]
        if not row.told_us and not row.muted:
            of = self.news if row.state in OPEN else self.late
            if by > 0:
                of[row.id] = None
            else:
                of.pop(row.id, None)
            if of is self.news:
                self.ranks[RANK.get(row.severity, 1)] += by


class Site:
    """All incidents of one site, apart from each other by more than `group_us`, in the order of their begins."""

    def __init__(self, name: str, group_us: int) -> None:
        self.name, self._group_us = name, group_us
        self._incidents: list[Incident] = []
        self._touched: dict[int, Incident] = {}
        """By identity: what is to be told of them is to be looked at."""
        self._relabel: dict[int, Incident] = {}
        """By identity: their id may be another one than that of their alerts."""
        self._torn: dict[int, Incident] = {}
        self.changed = False

    def put(self, row: AlertRow) -> Incident:
        """Take up an alert that has fired; return its incident, whose id may be another one than before."""
        self.changed = True
        near = self._near(row.begin_us)
        if not near:
            incident = Incident(Told("", row.begin_us, row.begin_us))
            insort(self._incidents, incident, key=_first)
        else:
            incident = self._joined(near)
        incident.put(row)
        told = incident.told
        told.first_us, told.last_us = min(told.first_us, row.begin_us), max(told.last_us, row.begin_us)
        self._name(incident)
        self._touched[id(incident)] = incident
        return incident

    def take(self, row: AlertRow, *, stays: bool) -> Incident | None:
        """Let go of an alert; `stays`: it was so, and is only no longer in the state. Return the incident that it was in."""
        incident = self.of(row)
        if incident is None:
            return None
        self.changed = True
        if stays:
            incident.leave(row)
        else:
            incident.drop(row.id)
            self._torn[id(incident)] = incident
        self._touched[id(incident)] = incident
        return incident

    def update(self, row: AlertRow) -> None:
        """Take up what has changed of an alert other than its begin."""
        incident = self.of(row)
        if incident is not None:
            incident.put(row)
            self._touched[id(incident)] = incident
            self.changed = True

    def touch_all(self) -> None:
        """Look at all of them: it is time."""
        self._touched.update((id(one), one) for one in self._incidents)

    def to_tell(self) -> list[Incident]:
        """Return what is to be looked at, once; then forget what nobody will ask for any more."""
        found, self._touched = list(self._touched.values()), {}
        if found:
            self._incidents = [one for one in self._incidents if one.rows or one.told.said == "firing"]
        return found

    def relabelled(self) -> list[Incident]:
        """Return, once, the incidents whose id may be another one than that of their alerts."""
        found, self._relabel = list(self._relabel.values()), {}
        return found

    def of(self, row: AlertRow) -> Incident | None:
        """Return the incident that an alert is in."""
        found = self.find(row.begin_us)
        return found if found is not None and row.id in found.rows else None

    def find(self, begin_us: int) -> Incident | None:
        """Return the incident that an alert that began then is in."""
        at = bisect_left(self._incidents, begin_us + 1, key=_first) - 1
        found = self._incidents[at] if at >= 0 else None
        return found if found is not None and found.told.last_us >= begin_us else None

    def settle(self) -> list[Incident]:
        """Part what no longer holds together. Return the incidents of which nothing is left that were told to be open."""
        ended = []
        for incident in list(self._torn.values()):
            if not any(one is incident for one in self._incidents):
                continue
            self._incidents.remove(incident)
            self._touched.pop(id(incident), None)
            self._relabel.pop(id(incident), None)
            parts = self._parted(incident)
            for part in parts:
                insort(self._incidents, part, key=_first)
                self._name(part)
                self._touched[id(part)] = self._relabel[id(part)] = part
            if not parts and incident.told.said == "firing":
                ended.append(incident)
        self._torn = {}
        return ended

    def encoded(self, clock_us: int) -> bytes:
        """Encode what was told: bounded, and what the alerts say themselves (see `restored`) is left out."""
        told = [one.told for one in self._incidents if one.news or not _plain(one.told, clock_us)]
        if len(told) > _MOST:
            told = sorted(told, key=lambda one: (one.said != "firing", -one.last_us))[:_MOST]
        return msgspec.msgpack.encode(told)

    def restore(self, told: Iterable[Told], rows: Iterable[AlertRow]) -> None:
        """Make all of it anew: from what was told, and the alerts that have fired."""
        self._incidents = [Incident(one) for one in sorted(told, key=lambda one: one.first_us)]
        for row in rows:
            self.put(row)
        for incident in self._incidents:
            heard = [row for row in incident.rows.values() if row.told_us]
            if not incident.told.said and heard:  # plain, and old: it was told once, and that it is over
                one = incident.told
                one.said, one.ended, one.said_us = "over", 1, max(row.told_us for row in heard)
                one.lead = incident.worst(row.id for row in heard).id
                one.rank = max(RANK.get(row.severity, 1) for row in heard)
        self._relabel.clear()
        self.changed = False

    def regroup(self, group_us: int) -> None:
        """Part and join all of them by another distance."""
        if group_us == self._group_us:
            return
        self._group_us = group_us
        before, self._incidents = self._incidents, []
        for incident in before:
            parts = self._parted(incident)
            for part in parts:
                near = self._near(part.told.first_us)
                if near:
                    insort(self._incidents, part, key=_first)
                    part = self._joined([*near, part])  # noqa: PLW2901 - it is that one now
                else:
                    insort(self._incidents, part, key=_first)
                self._name(part)
                self._touched[id(part)] = self._relabel[id(part)] = part
        self.changed = True

    def _near(self, begin_us: int) -> list[Incident]:
        at = bisect_left(self._incidents, begin_us, key=_first)
        some = self._incidents[max(at - 1, 0) : at + 1]
        return [
            one
            for one in some
            if one.told.first_us - self._group_us <= begin_us <= one.told.last_us + self._group_us
        ]

    def _joined(self, some: list[Incident]) -> Incident:
        if len(some) == 1:
            return some[0]
        some.sort(key=lambda one: -len(one.rows))
        most = some[0]
        for other in some[1:]:
            self._incidents = [one for one in self._incidents if one is not other]
            self._touched.pop(id(other), None)
            self._relabel.pop(id(other), None)
            if self._torn.pop(id(other), None) is not None:
                self._torn[id(most)] = most
            self._relabel[id(most)] = most
            for row in other.rows.values():
                most.put(row)
            _add(most.told, other.told)
        self._incidents.sort(key=_first)
        return most

    def _name(self, incident: Incident) -> None:
        """Give it the id of its first begin; where alerts have left the state, the table has its id: it stays."""
        told = incident.told
        name = told.id if told.left and told.id else stable_id("incident", self.name, told.first_us)
        if told.id != name:
            told.id = name
            self._relabel[id(incident)] = incident

    def _parted(self, incident: Incident) -> list[Incident]:
        """Part an incident where its begins are too far apart now; each part of which something was told keeps that."""
        told = incident.told
        spans = [(row.begin_us, row.begin_us) for row in incident.rows.values()]
        if told.left:
            spans.append((told.left_first_us, told.left_last_us))
        groups: list[tuple[int, int]] = []
        for first_us, last_us in sorted(spans):
            if groups and first_us <= groups[-1][1] + self._group_us:
                groups[-1] = (groups[-1][0], max(groups[-1][1], last_us))
            else:
                groups.append((first_us, last_us))
        if not groups:
            return []
        parts = [Incident(msgspec.structs.replace(told, first_us=a, last_us=b)) for a, b in groups]
        starts = [first_us for first_us, _ in groups]
        for row in incident.rows.values():
            parts[bisect_left(starts, row.begin_us + 1) - 1].put(row)
        for part in parts:
            mine = part.told
            if not (told.left and mine.first_us <= told.left_first_us <= mine.last_us):
                mine.left = mine.left_first_us = mine.left_last_us = 0
                if len(parts) > 1 and not any(row.told_us for row in part.rows.values()):
                    part.told = Told("", mine.first_us, mine.last_us)
        return parts


def _first(incident: Incident) -> int:
    return incident.told.first_us


def _plain(told: Told, clock_us: int) -> bool:
    """Tell whether an incident is long over, told once and that it is over, and its alerts are all in the state."""
    return (
        told.said != "firing"
        and told.last_us < clock_us - _SETTLED_US
        and not (told.left or told.grown or told.escalated)
        and told.ended <= 1
    )


def _add(most: Told, other: Told) -> None:
    """Join what was told of two incidents; counts go on from the higher one, so that no id comes again."""
    if other.left and most.left:
        most.id = other.id if other.left_first_us < most.left_first_us else most.id
        most.left_first_us = min(most.left_first_us, other.left_first_us)
        most.left_last_us = max(most.left_last_us, other.left_last_us)
    elif other.left:
        most.id, most.left_first_us, most.left_last_us = other.id, other.left_first_us, other.left_last_us
    most.left += other.left
    most.lead = min(most, other, key=lambda one: (not one.said, one.first_us)).lead
    take_over(most, other)
    most.first_us, most.last_us = min(most.first_us, other.first_us), max(most.last_us, other.last_us)


def take_over(most: Told, other: Told) -> None:
    """Take over what was said of another incident, or of an alert that was in it."""
    most.said = max(most.said, other.said, key=("", "over", "firing").index)
    for name in ("said_us", "rank", "grown", "ended", "escalated", "escalated_us"):
        setattr(most, name, max(getattr(most, name), getattr(other, name)))
