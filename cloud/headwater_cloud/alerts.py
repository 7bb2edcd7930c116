"""The life of alerts in one shard: what the evidence, people, the rules and the clock come to, and what people are told of it.

Every row is a function of the set of its evidence, of people's actions, of the rules and of the shard's clock, whatever came
first, again, or cut into other batches. What was told is remembered beside; what was told and is not so any more after late
or corrected evidence is `withdrawn`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from headwater_cloud import alert_changes, alert_life, mutes, telling
from headwater_cloud.alert_changes import Change
from headwater_cloud.alert_rows import REPORTED, AlertRow, stands
from headwater_cloud.book import Inhibit
from headwater_cloud.episodes import Watched
from headwater_cloud.incidents import Incident, Site, Told, take_over
from headwater_cloud.outputs import Notification, Report
from headwater_cloud.shard import Shard
from headwater_cloud.telling import Said
from headwater_shared.alert_records import Action
from headwater_shared.identity import stable_id


class Alerts(NamedTuple):
    """What a step puts out: changes in their order, the last one of an alert is how it stands; messages; pieces of state by name."""

    changes: list[Change]
    notifications: list[Notification]
    pieces: dict[str, bytes]


def report_id(report: Report) -> str:
    """The id of the alert that a report becomes, "" if it becomes none: one an agent and epoch, in whichever shard it shows."""
    rule = REPORTED.get(report.kind)
    return stable_id(rule, report.agent, report.epoch) if rule else ""


def step(
    shard: Shard,
    watched: Iterable[Watched] = (),
    actions: Iterable[Action] = (),
    reports: Iterable[Report] = (),
    described: Iterable[str] = (),
) -> Alerts:
    """Take in what a batch brought to a shard, whose alerts are changed in place.

    Args:
        shard: its clock, book, agents and registry are as of after the batch.
        watched: episodes of the keys and rules that have changed.
        actions: what people did.
        reports: some become alerts.
        described: devices of which the registry says something else.
    """
    return _Step(shard).run(watched, actions, reports, described)


class _Step:
    """One step: rows are taken up, put into incidents, judged, told of, put out, in this order."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._state, self._book = shard, shard.alerts, shard.book
        self._now_us = shard.clock_us
        self._before: dict[str, AlertRow | None] = {}
        """Of alerts that have changed in this step: as they were."""
        self._rows: dict[str, AlertRow] = {}
        """The same, as they are."""
        self._gone: list[AlertRow] = []
        """Those that are no longer in the state."""
        self._untrue: dict[str, AlertRow] = {}
        """By site: one that people were told and that was not so."""
        self._said: list[Said] = []
        self._withdrawn: list[Change] = []
        self._moved: list[tuple[Told, str, str]] = []
        """What was told of alerts that go on as others: it goes along; with key and id of the other."""
        self._keys: set[str] = set()
        """All of whose alerts are to be judged."""
        self._wide: set[int] = set()
        """Incidents, by identity, all of whose alerts are to be judged."""

    def run(
        self,
        watched: Iterable[Watched],
        actions: Iterable[Action],
        reports: Iterable[Report],
        described: Iterable[str],
    ) -> Alerts:
        state = self._state
        anew = state.judge_by(self._book)
        acted = self._act(actions)
        self._report(reports)
        for one in watched:
            self._follow(one)
        self._look(anew=anew)
        self._gather()
        self._judge(acted)
        for site in list(state.sites.values()):
            self._tell(site)
        found = [
            *self._withdrawn,
            *alert_changes.changes(self._shard, self._before, self._rows, acted, described),
        ]
        changed = [*self._rows.values(), *self._gone]
        sites = [name for name, site in state.sites.items() if site.changed]
        state.clock_us = self._now_us
        pieces = state.pieces(changed, {action.key for action in acted}, sites)
        for name in sites:
            state.sites[name].changed = False
        return Alerts(found, [alert_changes.described(self._shard, one) for one in self._said], pieces)

    def _act(self, actions: Iterable[Action]) -> list[Action]:
        new = [action for action in actions if self._state.add(action)]
        self._keys.update(action.key for action in new)
        return new

    def _report(self, reports: Iterable[Report]) -> None:
        for report in reports:
            at, key = report_id(report), f"agent:{report.agent}"
            if at and at not in self._state.key(key).rows:
                at_us, rule = report.time_us, REPORTED[report.kind]
                self._set(
                    AlertRow(
                        at, key, rule, report.agent, at_us, at_us, None, "critical", report.text, 0.0,
                        sure="certain", known_us=self._now_us,
                    )
                )  # fmt: skip

    def _follow(self, watched: Watched) -> None:
        key = self._state.key(watched.key)
        found = alert_life.follow(key, watched, self._now_us, self._book.time_us or self._now_us)
        for row, why, heir in found.withdrawn:
            self._withdraw(row, why, heir)
        for row in found.left:
            if not any(action.whole and key.meant(action) is row for action in key.actions.values()):
                self._let_go(row, stays=True)
        for row in found.rows:
            self._set(row)
        if key.actions and (found.rows or found.withdrawn):
            self._keys.add(watched.key)

    def _withdraw(self, row: AlertRow, why: str, heir: str) -> None:
        self._withdrawn.append(alert_changes.withdrawn(self._shard, row, why))
        incident = self._let_go(row, stays=False)
        if incident is not None and heir:
            if incident.told.lead == row.id:
                incident.told.lead = heir
            self._moved.append((incident.told, row.key, heir))
        if row.told_us and not heir:
            self._untrue[row.site] = msgspec.structs.replace(row, text=f"it was not so: {row.text}")

    def _let_go(self, row: AlertRow, *, stays: bool) -> Incident | None:
        self._state.drop(row, self._book)
        self._gone.append(row)
        return self._site(row.site).take(row, stays=stays) if row.incident else None

    def _set(self, row: AlertRow) -> None:
        self._before.setdefault(row.id, self._state.key(row.key).rows.get(row.id))
        self._rows[row.id] = row
        self._state.put(row, self._book)

    def _look(self, *, anew: bool) -> None:
        """Mark what the clock, the book or the silence of an agent may have changed."""
        state, now_us = self._state, self._now_us
        for name in state.due(now_us):
            if not name.startswith("@"):
                self._keys.add(name)
            elif name[1:] in state.sites:
                state.sites[name[1:]].touch_all()
        silent = frozenset(agent for agent, progress in self._shard.agents.items() if progress.silent)
        turned, state.silent = silent != state.silent, silent
        crossed = any(
            state.clock_us < at_us <= now_us
            for one in self._book.maintenance
            for at_us in (one.begin_us, one.end_us)
        )
        if turned or crossed or anew:
            for of in state.opens.values():
                self._keys.update(of.values())
        if anew:
            for site in state.sites.values():
                site.touch_all()

    def _gather(self) -> None:
        """Put alerts that have fired into their incidents, and part what does not hold together any more."""
        fired = [row for row in self._rows.values() if row.fired_us is not None]
        for row in fired:
            self._site(row.site).put(row)
        for told, key, heir in self._moved:
            row = self._state.key(key).rows[heir]
            incident = self._site(row.site).of(row)
            if incident is not None and incident.told is not told:
                incident.told.lead = incident.told.lead or heir
                take_over(incident.told, told)
        for site in self._state.sites.values():
            for incident in site.settle():
                self._said += telling.ended(incident, self._now_us, self._untrue.get(site.name))
            for incident in site.relabelled():
                self._wide.add(id(incident))
                for row in list(incident.rows.values()):
                    self._label(row, incident)
        for row in fired:
            incident = self._site(row.site).of(row)
            if incident is not None:
                self._label(incident.rows[row.id], incident)

    def _label(self, row: AlertRow, incident: Incident) -> None:
        if row.incident != incident.told.id:
            row = msgspec.structs.replace(row, incident=incident.told.id)
            self._set(row)
            incident.put(row)

    def _judge(self, acted: Sequence[Action]) -> None:
        """Find the states of what may have changed, then what mutes what, inhibitors first."""
        whole = self._state.wholes(self._book.alerts.group_us)
        self._wide.update(
            id(incident)
            for incident, actions in whole.values()
            if any(one.whole and one in actions for one in acted)
        )
        rows = dict(self._rows)
        for name in self._keys:
            rows.update(self._state.key(name).rows)
        for incident, _ in whole.values():
            if id(incident) in self._wide:
                rows.update(incident.rows)
        own = {
            key: self._state.key(key).of_rows()
            for key in {row.key for row in rows.values()}
            if self._state.key(key).actions
        }
        acts = {}
        for at, row in list(rows.items()):
            acts[at] = _together(row, own.get(row.key, {}).get(at, []), whole.get(row.incident))
            rows[at] = self._judged(row, stands(row, acts[at]))
        self._stir(rows)
        for at, row in rows.items():
            self._mute(row, acts[at] if at in acts else self._state.key(row.key).of_rows().get(at, []))

    def _stir(self, rows: dict[str, AlertRow]) -> None:
        """Add the open alerts that those mute which have changed."""
        scopes: set[tuple[str, Inhibit]] = set()
        for at, row in rows.items():
            before = self._before.get(at, row)
            if before is None or before.state != row.state:
                scopes.update(
                    (mutes.scope_of(row, one), one) for one in self._book.inhibit if one.by == row.rule
                )
        for scope, inhibit in scopes:
            for row in self._state.muted_by(scope, inhibit):
                rows.setdefault(row.id, row)

    def _mute(self, row: AlertRow, acts: list[Action]) -> None:
        before, state = self._before.get(row.id, row), self._state
        if row.over_us is not None and before is not None and before.over_us is not None:
            return  # it stays what it was when it ended
        muted = mutes.why(row, acts, self._book, self._now_us, state.silent, state.inhibitors)
        until_us = mutes.until(acts, self._now_us)
        if until_us is not None:
            state.after(until_us, row.key)
        if muted != row.muted:
            self._judged(row, msgspec.structs.replace(row, muted=muted))

    def _judged(self, row: AlertRow, now: AlertRow) -> AlertRow:
        if now is not row:
            self._set(now)
            if now.fired_us is not None:
                self._site(now.site).update(now)
        return now

    def _tell(self, site: Site) -> None:
        policy = self._book.alerts
        for incident in site.to_tell():
            said, heard = telling.tell(incident, self._now_us, policy, self._untrue.get(site.name))
            self._said += said
            for row in heard:
                self._set(row)
            look_us = telling.next_look(incident, policy)
            if look_us is not None:
                self._state.after(look_us, "@" + site.name)
            site.changed = site.changed or bool(said or heard)

    def _site(self, name: str) -> Site:
        return self._state.site(name, self._book.alerts.group_us)


def _together(
    row: AlertRow, own: Sequence[Action], whole: tuple[Incident, list[Action]] | None
) -> list[Action]:
    """Return what people did with an alert, and with all of its incident while it was so, in the order of its times."""
    if whole is None or not row.incident:
        return list(own)
    end_us = row.end_us
    during = [
        one for one in whole[1] if row.begin_us <= one.time_us and (end_us is None or one.time_us <= end_us)
    ]
    found = {one.id: one for one in (*own, *during)}
    return sorted(found.values(), key=lambda one: (one.time_us, one.id))
