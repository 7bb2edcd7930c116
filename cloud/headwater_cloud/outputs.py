"""What operators put out beside rows: records for the bus, reports for a person, and how each is written down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from headwater_shared import frame, records, topics, trace
from headwater_shared.alert_records import Alert
from headwater_shared.bus import Record, Stored
from headwater_shared.frame import Frame
from headwater_shared.identity import agent_partition, stable_id
from headwater_shared.records import Have

SOURCE = "cloud"

WAS = "was-"
"""Before the name of a dead letter's header: the record's own header of that name, and its `key`."""
REPLAY_OF = "replay-of"
"""The header of a record that a person has taken again: which dead letter it was."""

ReportKind = Literal["gap", "went-back", "began-anew", "another-body", "late"]


class Report(NamedTuple):
    """Something about an agent's stream that a person should know; it stops nothing."""

    kind: ReportKind
    shard: int
    agent: str
    epoch: int
    text: str
    time_us: int
    """By the shard's clock."""


class DeadLetter(NamedTuple):
    """A record that was not taken, whole, and why."""

    reason: str
    text: str
    record: Stored


class Why(NamedTuple):
    """Why a record is a dead letter, where that was decided before: it is not looked into again."""

    reason: str
    text: str


class Waiting(NamedTuple):
    """A record that is committed and not known to be on the bus: the producer and the id that it is appended under."""

    producer: str
    id: int
    record: Record


NotificationState = Literal["firing", "growing", "escalated", "resolved"]


class Notification(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message for people: of an incident that its first alert fires, that it grows, that nobody acknowledges it, that it is over.

    `possible_repeat` if it may have gone out before (R29).
    """

    id: str
    alert: str
    """The alert that it speaks of; of a worse one that fires, and of the end, the one that was told of first: they are paired by it."""
    state: NotificationState
    rule: str
    subject: str
    severity: str
    text: str
    value: float
    begin_us: int
    time_us: int
    possible_repeat: bool = False
    site: str = ""
    """Empty of cohorts and agents."""
    incident: str = ""
    members: int = 1
    """Alerts of the incident, those that are over included."""
    devices: list[str] = []
    """A few of its devices, `site/device`."""
    do: str = ""
    link: str = ""
    sure: str = ""
    """How sure it is, in words."""
    model: str = ""
    place: str = ""
    owner: str = ""
    runbook: str = ""
    known_us: int = 0
    """The clock when it was decided."""
    over: bool = False
    """It was over already when it was found."""
    trace: str = ""
    """The `traceparent` of the change of an alert that it tells of; empty: it comes by the clock, or of what is in no trace."""


def as_repeat(notification: Notification) -> Notification:
    """Return a notification that may have gone out before (R29)."""
    return msgspec.structs.replace(notification, possible_repeat=True)


def have_record(have: Have, time_us: int) -> Record:
    """For `hw-have`. The key names what the record replaces when the topic is compacted: one epoch of one agent in one shard."""
    body = records.encode(have)
    headers = records.headers(records.HAVE, stable_id("have", body.hex()), SOURCE, time_us)
    key = f"{have.agent}/{have.epoch:016x}/{have.shard}"
    topic = topics.HAVE
    return Record(topic.name, agent_partition(have.agent, topic.partitions), key, headers, body)


def dead_letter_record(dead: DeadLetter) -> Record:
    """For `hw-dead-letters`: the bytes as they came, where from, and all that it takes to put them there again."""
    stored = dead.record
    where = f"{stored.topic}/{stored.partition}/{stored.offset}"
    own = {
        **records.headers("dead-letter", where, SOURCE, stored.time_us),
        "content-type": "application/octet-stream",
        "reason": dead.reason,
        "text": dead.text,
        "was": stored.headers.get("ce_type", ""),
        WAS + "key": stored.key,
    }
    hidden = {WAS + name: stored.headers[name] for name in own if name in stored.headers}
    return Record(topics.DEAD_LETTERS.name, 0, where, {**stored.headers, **own, **hidden}, stored.body)


def revived(dead: Stored) -> Record | None:
    """The record that a dead letter was, as it was, but for the header that says so; None: it never was one (`late`).

    Of letters of before, which kept no `was-` headers, only the type is known; the body says the rest, once it can be read.
    """
    topic, _, place = dead.key.partition("/")
    if topic not in _READ:
        return None
    kept = {
        name: text for name, text in dead.headers.items() if name not in _OWN and not name.startswith(WAS)
    }
    hidden = {n.removeprefix(WAS): text for n, text in dead.headers.items() if n.startswith(WAS)}
    key = hidden.pop("key", "")
    headers = {"ce_type": dead.headers["was"], **kept, **hidden}
    headers[REPLAY_OF] = f"{dead.topic}/{dead.partition}/{dead.offset}"
    return Record(topic, int(place.partition("/")[0]), key, headers, dead.body)


def decided(out: Iterable[Record], at: tuple[str, int]) -> dict[int, Why]:
    """Which records of a partition are dead letters among what goes out, by offset."""
    where = f"{at[0]}/{at[1]}/"
    return {
        int(one.key.removeprefix(where)): Why(one.headers["reason"], one.headers["text"])
        for one in out
        if one.topic == topics.DEAD_LETTERS.name and one.key.startswith(where)
    }


_READ = {topic.name for topic in (topics.IN, *topics.SECOND)}
_OWN = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type", "reason", "text", "was")


def late_record(parts: Frame, text: str, time_us: int) -> Record:
    """For `hw-dead-letters`: parts that came when their window could no longer be revised (R28), as a frame of seq 0."""
    body = frame.encode(parts)
    where = stable_id("late", body.hex())
    headers = {
        **records.headers("dead-letter", where, SOURCE, time_us),
        "reason": "late",
        "text": text,
        "was": records.CE_TYPE + records.FRAME,
    }
    return Record(topics.DEAD_LETTERS.name, 0, where, headers, body)


def alert_records(
    alert: Alert, traceparent: str = "", *, is_event: bool = True, is_latest: bool = True
) -> list[Record]:
    """For `hw-alerts` (the latest of each) and `hw-alert-events` (each change), in the trace of what brought it."""
    body = records.encode(alert)
    more = {trace.HEADER: traceparent} if traceparent else {}
    name = f"{alert.id}/{alert.n}/{alert.state}"
    headers = records.headers(records.ALERT, name, SOURCE, alert.time_us, **more)
    wanted = [topics.ALERTS] * is_latest + [topics.ALERT_EVENTS] * is_event
    return [
        Record(topic.name, agent_partition(alert.id, topic.partitions), alert.id, headers, body)
        for topic in wanted
    ]
