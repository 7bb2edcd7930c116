"""A route to one Alertmanager: not messages, but which alerts fire, as the cloud's file has it: each change at once, all each minute (R29).

Alertmanager forgets what is not posted again, and ends what is not posted for an hour; it groups, waits, repeats and silences by its
own settings. So nothing is queued here: what could not be posted is posted later as it is then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from headwater_cloud import alert_history, posted, traced
from headwater_cloud.alertmanager_words import SOURCE, annotations_of, body_of, labels_of
from headwater_cloud.mutes import asked_for
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_route import moment
from headwater_cloud.notify_settings import Rules
from headwater_cloud.notify_store import NotifyStore
from headwater_cloud.notify_thread import Stepped
from headwater_cloud.notify_words import Ack
from headwater_cloud.posted import Posted
from headwater_cloud.send_alertmanager import Posts
from headwater_cloud.sending import Message
from headwater_cloud.store import APPLICATION, VERSION, trouble
from headwater_cloud.views import AlertView
from headwater_shared import tracing
from headwater_shared.clock import Clock, wall_of
from headwater_shared.crash import reached
from headwater_shared.errors import HeadwaterError, Refused
from headwater_shared.logs import get_logger
from headwater_shared.sqlite_file import open_reader

log = get_logger()

_ALL_US = 60_000_000
"""How often all that fires is posted."""
_HOUR_US = 3_600_000_000
_GOOD_US = _HOUR_US
"""For how long a post is good: after that Alertmanager ends by itself what nobody posts any more."""
_OVER_US = 900_000_000
"""For how long what is over is posted again: an Alertmanager that dies meanwhile keeps no alerts, and must still say it."""
_RETRY_MOST_S = 60.0
_MANY = 500
"""Alerts of one POST."""
_LINK_US = 86_400_000_000
"""How long one link to acknowledge an alert is used, of those that are good for a week."""


class Alertmanager(Stepped):
    """One Alertmanager; of a route with several urls there is one of these for each.

    Args:
        cloud: the cloud's file, which is only read.
        store: the courier's, which remembers what was posted.
        ack: makes the link that acknowledges.
        broke: see `Stepped`.
    """

    def __init__(
        self, rules: Rules, cloud: Path, store: NotifyStore, clock: Clock, zones: Zones, ack: Ack, broke: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__(f"notify {rules.name}", lambda: moment(clock).real_us, broke)
        self.rules = rules
        self.sent = self.failed = 0
        """Alerts that it took when they had changed, and tries that failed, of this process."""
        self.failing_since_us = 0
        self._cloud, self._store, self._clock, self._zones, self._ack = cloud, store, clock, zones, ack
        self._posts = Posts(rules.urls[0], rules.timeout_s)
        self._reader: sqlite3.Connection | None = None
        self._rows = posted.load(store, rules.name)
        self._seen: object = None
        """How many changes of alerts there were at the last look."""
        self._said: dict[str, dict[str, str]] = {}
        """Annotations, by labels, of all that is posted."""
        self._lost: dict[str, int] = {}
        """Since when the cloud's file does not know the alert of some labels: it went back, perhaps, and comes again."""
        self._unsent: dict[str, int] = {}
        """What changed and was not taken yet, and since when."""
        self._links: dict[str, tuple[str, int]] = {}
        self._refused: set[str] = set()
        """What Alertmanager would not take when it was posted last."""
        self._all_us = self._not_before_us = self._failures = 0
        self._began = ""
        """When the Alertmanager was started that got all of it last."""

    def step(self) -> int | None:
        """Look at the cloud's file, and post what changed, and all of it when that is due."""
        now_us = moment(self._clock).real_us
        due = not self._all_us - _ALL_US <= now_us < self._all_us  # also if the clock went back
        self._follow(now_us, due=due)
        if not self._not_before_us - 2 * round(_RETRY_MOST_S * 1e6) < now_us < self._not_before_us:
            began = self._posts.began() if due else ""
            every = self._due(same=bool(began) and began == self._began) if due else self._unsent
            some = [labels for labels in every if labels not in self._lost]
            if self._post(some, now_us) and due:
                self._all_us, self._began = now_us + _ALL_US, began
        return max(self._all_us, self._not_before_us)

    def try_out(self, message: Message) -> str:
        """Post an alert of five minutes that says that this is a test. Returns why it was not taken, "" if it was."""
        now_us, one = moment(self._clock).real_us, message.some[0]
        labels = {"alertname": "headwater-test", "severity": one.severity, "source": SOURCE}
        said = {"summary": one.text, "text": one.text}
        try:
            Posts(self.rules.urls[0], self.rules.timeout_s).post(
                message.id, [body_of(labels, said, now_us, now_us + 300_000_000)]
            )
        except HeadwaterError as error:
            return str(error)
        return ""

    def hurry(self) -> None:
        """Try again now, whatever failed."""
        self._not_before_us = self._all_us = 0
        self.wake()

    def close(self) -> None:
        super().close()
        self._let_go()

    def status(self) -> dict[str, Any]:
        """What a person sees of it; `waiting`: alerts whose change was not taken yet."""
        unsent = list(self._unsent.values())
        now_us = moment(self._clock).real_us
        return {
            "to": self.rules.settings.to, "sent": self.sent, "failed": self.failed, "failing": self.failing,
            "failing_since_us": self.failing_since_us if self.failing else 0, "waiting": len(unsent), "refused": 0,
            "oldest_s": round(max(0, now_us - min(unsent, default=now_us)) / 1e6, 1),
        }  # fmt: skip

    def _follow(self, now_us: int, *, due: bool) -> None:
        """Compare what fires with what was posted; note in the courier's file what will be posted otherwise, before it is."""
        if self._reader is None:
            if not self._cloud.exists():
                return
            self._reader = open_reader(self._cloud, application=APPLICATION, version=VERSION)
        before = self._rows
        try:
            self._reader.execute("BEGIN")  # all that follows is of one state
            since_us = (moment(self._clock).shown_us // _HOUR_US - 1) * _HOUR_US
            seen = since_us, alert_history.changes_since(self._reader, since_us)
            if seen == self._seen and not due:
                self._reader.execute("COMMIT")
                return
            after = self._fires(self._reader, now_us)
            for labels in before.keys() - after.keys():
                self._ends(self._reader, before[labels], now_us, after)
            self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            self._let_go()
            raise trouble(self._cloud, error) from error
        for labels in [*self._lost]:
            if labels not in before or labels not in after or after[labels].over_us is not None:
                del self._lost[labels]
        changed = [row for labels, row in after.items() if before.get(labels) != row]
        gone = before.keys() - after.keys()
        if changed or gone:
            posted.save(self._store, self.rules.name, changed, gone)
        self._rows, self._seen = after, seen
        for row in changed:
            self._unsent.setdefault(row.labels, now_us)
        for labels in gone:
            self._said.pop(labels, None)
            self._unsent.pop(labels, None)

    def _due(self, *, same: bool) -> list[str]:
        """Return what is to be posted this minute.

        Of what is over an Alertmanager that took it, and is the `same` still, is told nothing more: it would begin a group anew of nothing, and what
        fires again in that group would wait for the end of its `group_interval`, and is never told if it is over by then.
        """
        return [
            labels
            for labels, row in self._rows.items()
            if not (same and row.over_us is not None and row.taken_us is not None) or labels in self._unsent
        ]

    def _fires(self, reader: sqlite3.Connection, now_us: int) -> dict[str, Posted]:
        """Return what is to fire there."""
        found: dict[str, AlertView] = {}
        for alert in alert_history.firing(reader):
            labels = labels_of(alert)
            if not self._wanted(alert, labels):
                continue
            other = found.get(labels)
            if other is None or (alert.episode_us, alert.id) < (other.episode_us, other.id):
                found[labels] = alert
        rows = {}
        for labels, alert in found.items():
            known = self._rows.get(labels)
            begin_us = min(wall_of(self._clock, alert.episode_us), now_us)
            if known is not None and known.alert == alert.id and known.over_us is None:
                begin_us = known.begin_us
            rows[labels] = Posted(labels, alert.id, begin_us, None, None)
            if self._lost.pop(labels, None) is not None:
                self._unsent.setdefault(labels, now_us)
            self._say(labels, alert, "", now_us)
        return rows

    def _wanted(self, alert: AlertView, labels: str) -> bool:
        """Tell whether an open alert is to fire there.

        What a person or a maintenance mutes is not; what another alert explains, or whose gateway is silent, stays as it is.
        """
        if not self.rules.takes(alert.rule, alert.severity, alert.site or alert.key):
            return False
        known = self._rows.get(labels)
        fires = known is not None and known.alert == alert.id and known.over_us is None
        return not alert.muted or (fires and not asked_for(alert.muted))

    def _ends(self, reader: sqlite3.Connection, row: Posted, now_us: int, after: dict[str, Posted]) -> None:
        """Add to `after` what becomes of what was posted and does not fire any more."""
        if row.taken_us is not None and not row.taken_us <= now_us < row.taken_us + _OVER_US:
            return
        if row.over_us is not None and row.labels in self._said:
            after[row.labels] = row
            return
        alert = alert_history.by_id(reader, row.alert)
        if alert is None:
            since_us = self._lost.setdefault(row.labels, now_us)
            if 0 <= now_us - since_us < _GOOD_US:
                after[row.labels] = row
            return
        over_us, why = now_us, self._why(alert, row.labels)
        if not why and alert.end_us is not None:
            over_us = wall_of(self._clock, alert.end_us)
        if row.over_us is None:
            row = row._replace(over_us=max(row.begin_us, min(over_us, now_us)))
        after[row.labels] = row
        self._say(row.labels, alert, why, now_us)

    def _why(self, alert: AlertView, labels: str) -> str:
        if alert.state == "resolved":
            return ""
        if alert.state not in alert_history.OPEN:
            return "late or corrected data show that it was not so"
        if labels_of(alert) != labels:
            return f"it goes on as {alert.severity}"
        return alert.muted or "this route does not send it any more"

    def _say(self, labels: str, alert: AlertView, why: str, now_us: int) -> None:
        ack = "" if why or alert.state == "resolved" else self._link(alert, now_us)
        said = annotations_of(alert, self._zones, self.rules.zone, ack, why)
        if self._said.get(labels) != said:
            self._unsent.setdefault(labels, now_us)
            self._said[labels] = said

    def _link(self, alert: AlertView, now_us: int) -> str:
        """The link that acknowledges an alert: that of what people were told of it last."""
        about = alert.incident or alert.id
        link, made_us = self._links.get(about, ("", 0))
        if not link or not 0 <= now_us - made_us < _LINK_US:
            told = self._store.last_about(about)
            link = self._ack(told) if told is not None else ""
            if len(self._links) > _MANY:
                self._links.clear()
            self._links[about] = link, now_us
        return link

    def _post(self, some: Iterable[str], now_us: int) -> bool:
        """Post what some labels stand for. Returns whether Alertmanager has it."""
        labels = [one for one in some if one in self._said]
        chunks = [labels[first : first + _MANY] for first in range(0, len(labels), _MANY)]
        while chunks:
            chunk = chunks.pop(0)
            began_us = tracing.begun()
            try:
                self._posts.post(f"{self.rules.name}/{now_us}", [self._alert(one, now_us) for one in chunk])
            except Refused as error:
                if len(chunk) > 1:  # perhaps for one of them: none may count as taken, or wait for that one
                    half = len(chunk) // 2
                    chunks[:0] = [chunk[:half], chunk[half:]]
                    continue
                self._refused.add(chunk[0])
                self._fail(error, now_us, 0.0)
                self._unsent.pop(chunk[0], None)  # it is tried again with all, each minute
                continue
            except HeadwaterError as error:
                wait_s = min(self.rules.retry_s * 2.0 ** min(self._failures, 30), self.rules.retry_most_s)
                wait_s = min(max(wait_s, getattr(error, "after_s", 0.0)), _RETRY_MOST_S)
                self._fail(error, now_us, wait_s)
                return False
            reached("cloud.alertmanager.posted")
            if began_us:
                self._trace(self._unsent.keys() & set(chunk), began_us)
            self._taken(chunk, now_us)
        self._refused &= self._said.keys()
        if labels and not self._refused:
            if self.failing:
                log.info("alerts are posted again", route=self.rules.name)
            self.failing, self._failures = "", 0
        return True

    def _trace(self, some: Iterable[str], began_us: int) -> None:
        """Put a span for each alert that fires there since people were told of it."""
        for labels in some:
            said = self._said[labels]
            told = self._store.last_about(said.get("incident") or said["alert"])
            if told is not None and told.alert == said["alert"] and self._rows[labels].over_us is None:
                traced.sent(self.rules.name, [told], began_us)

    def _taken(self, chunk: list[str], now_us: int) -> None:
        self.sent += len(self._unsent.keys() & set(chunk))
        ended = [
            row._replace(taken_us=now_us)
            for row in map(self._rows.__getitem__, chunk)
            if row.over_us is not None and row.taken_us is None
        ]
        if ended:
            posted.save(self._store, self.rules.name, ended)
            self._rows.update((row.labels, row) for row in ended)
        self._refused.difference_update(chunk)
        for labels in chunk:
            self._unsent.pop(labels, None)

    def _alert(self, labels: str, now_us: int) -> dict[str, Any]:
        row = self._rows[labels]
        # By a clock that was wrong since, it may begin, or end, later than now.
        until_us = now_us + _GOOD_US if row.over_us is None else min(row.over_us, now_us)
        return body_of(
            msgspec.json.decode(labels), self._said[labels], min(row.begin_us, until_us, now_us), until_us
        )

    def _fail(self, error: HeadwaterError, now_us: int, wait_s: float) -> None:
        self.failed += 1
        self._failures += 1
        self._not_before_us = now_us + round(wait_s * 1e6)
        if not self.failing:
            self.failing_since_us = now_us
            log.warning(
                "Alertmanager does not take alerts; they are posted again", route=self.rules.name, error=error
            )
        self.failing = error.message

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
