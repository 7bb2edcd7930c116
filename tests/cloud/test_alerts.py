"""Anomalies through the whole cloud side: alerts, topics, lines; people are told once, or marked (R29). See also `test_alert_life`."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from headwater_cloud import alerts, watch
from headwater_cloud.alerts import Alerts
from headwater_cloud.names import Names
from headwater_cloud.shard import Shard
from headwater_cloud.watch import Seen
from headwater_shared import records, trace
from headwater_shared.alert_records import Alert
from headwater_shared.records import Anomaly
from headwater_shared.topics import ALERT_EVENTS, ALERTS, Topic
from tests.cloud.made import SHARD, T0, TEMP, Agent, S
from tests.cloud.notified import LINES
from tests.cloud.side import Side
from tests.cloud.test_alert_life import pure


def alert_rows(side: Side) -> list[Any]:
    """State, subject, begin and last change (seconds after T0) and value of each alert, by its begin."""
    query = "SELECT state, subject, episode_us, time_us, value FROM alert ORDER BY episode_us, subject"
    return [
        (state, subject, (begin - T0) / S, (at - T0) / S, v)
        for state, subject, begin, at, v in side.rows(query)
    ]


def on_topic(side: Side, topic: Topic) -> list[Alert]:
    return [records.decode(Alert, stored.body) for stored in side.topic(topic)]


def test_an_alert_is_in_the_trace_of_what_brought_it(side: Side) -> None:
    """Each change has the trace of its anomaly, unchanged; of one without a valid trace, none."""
    agent = Agent()
    traces = [trace.traceparent("begin"), trace.traceparent("end"), "00-of-nobody-01"]
    sent = [
        agent.anomaly("begin", 3), agent.anomaly("end", 9, begin=3), agent.anomaly("begin", 20), agent.anomaly("end", 29, begin=20)
    ]  # fmt: skip
    for n, traceparent in enumerate(traces):
        sent[n] = structs.replace(sent[n], headers={**sent[n].headers, "traceparent": traceparent})
    for one in sent:
        side.take(one)
    for topic in (ALERT_EVENTS, ALERTS):
        found = [stored.headers.get("traceparent") for stored in side.topic(topic)]
        assert sorted(map(str, found)) == sorted([*traces[:2], "None", "None"])
    by_state = {
        one.headers["ce_id"].rpartition("/")[2]: one.headers["traceparent"]
        for one in side.topic(ALERTS)
        if "traceparent" in one.headers
    }
    assert by_state == {"firing": traces[0], "resolved": traces[1]}


def test_a_begin_fires_and_an_end_resolves(side: Side) -> None:
    """The row, both topics, a line for people and the metrics say so."""
    agent = Agent()
    side.take(agent.anomaly("begin", 3, 91.5))
    assert alert_rows(side) == [("firing", TEMP, 3, 3, 91.5)]
    side.take(agent.anomaly("end", 9, 77.0, begin=3))
    assert alert_rows(side) == [("resolved", TEMP, 3, 9, 91.5)], "the value is the one that broke the rule"
    events = on_topic(side, ALERT_EVENTS)
    assert [(event.state, event.value, event.severity) for event in events] == [
        ("firing", 91.5, "critical"), ("resolved", 91.5, "critical"),
    ]  # fmt: skip
    assert len({stored.key for stored in side.topic(ALERTS)}) == 1, "compacted, the latest stays"
    assert on_topic(side, ALERTS)[-1] == events[-1]
    firing, resolved = side.lines()
    assert (firing["state"], firing["begin"], firing["time"]) == (
        "firing", "2027-01-15T08:00:03.000Z", "2027-01-15T08:00:03.000Z",
    )  # fmt: skip
    assert (resolved["state"], resolved["begin"], resolved["time"]) == (
        "resolved", "2027-01-15T08:00:03.000Z", "2027-01-15T08:00:09.000Z",
    )  # fmt: skip
    assert firing["id"] != resolved["id"]
    assert firing["alert"] == resolved["alert"]
    assert [side.count("alert_changes_total", state=state) for state in ("firing", "resolved")] == [1, 1]


def test_begin_and_end_in_one_batch_are_one_notification(side: Side) -> None:
    """Short episodes are told too, as what they are by now: over."""
    agent = Agent()
    side.take(agent.anomaly("begin", 3), agent.anomaly("end", 4, begin=3))
    assert [(line["state"], line["over"]) for line in side.lines()] == [("resolved", True)]
    assert [event.state for event in on_topic(side, ALERT_EVENTS)] == ["resolved"]


def test_what_is_repeated_tells_nobody_anything(side: Side) -> None:
    """The same anomaly from another epoch of the agent (it was sent anew after a restore) changes nothing."""
    agent = Agent()
    said: list[tuple[Literal["begin", "end"], int, float | None]] = [("begin", 3, None), ("end", 9, 3.0)]
    for phase, at, begin in said:
        side.take(agent.anomaly(phase, at, begin=begin))
    before = side.rows("SELECT * FROM alert")
    agent.restart(2)
    side.take(*(agent.anomaly(phase, at, begin=begin) for phase, at, begin in said))
    agent.restart(3)
    side.take(*(agent.anomaly(phase, at, begin=begin) for phase, at, begin in reversed(said)))
    assert side.rows("SELECT * FROM alert") == before
    assert side.told() == ["firing", "resolved"]
    assert len(side.topic(ALERT_EVENTS)) == 2
    assert side.rows("SELECT count(*) FROM anomaly") == [(6,)], "each is kept with its identity"


def test_an_end_that_comes_first_resolves_and_its_begin_does_not_fire_any_more(side: Side) -> None:
    """Out of order: the alert is over before it is known to have begun; then its begin gives it its severity."""
    agent = Agent()
    begin, end = agent.anomaly("begin", 3), agent.anomaly("end", 9, 77.0, begin=3, severity="info")
    side.take(end)
    assert alert_rows(side) == [("resolved", TEMP, 3, 9, 77.0)]
    side.take(begin)
    assert alert_rows(side) == [("resolved", TEMP, 3, 9, 90.0)]
    assert side.rows("SELECT severity FROM alert") == [("critical",)]
    assert side.told() == ["resolved"]


def test_r26_overlapping_episodes_of_a_rule_and_series_are_one(side: Side) -> None:
    """Those of another series or rule are alerts of their own, and one incident."""
    agent = Agent()
    side.take(
        agent.anomaly("begin", 1), agent.anomaly("begin", 2, series="s1/d2/temp"), agent.anomaly("begin", 2),
        agent.anomaly("begin", 3, rule="way-too-hot"), agent.anomaly("end", 5, begin=2),
    )  # fmt: skip
    assert [(state, subject, begin) for state, subject, begin, *_ in alert_rows(side)] == [
        ("firing", TEMP, 1), ("firing", "s1/d2/temp", 2), ("firing", TEMP, 3),
    ]  # fmt: skip
    assert len({row[0] for row in side.rows("SELECT incident FROM alert")}) == 1
    assert [(line["state"], line["members"]) for line in side.lines()] == [("firing", 3)]


def test_r26_the_id_is_the_same_whoever_found_it(side: Side) -> None:
    """It hashes rule, subject and episode, and neither agent nor epoch nor region."""
    side.take(Agent("a1").anomaly("begin", 1), Agent("a2", epoch=9).anomaly("begin", 1, 95.0))
    assert len(alert_rows(side)) == 1
    assert side.told() == ["firing"]


def stepped(shard: Shard, anomalies: list[Anomaly]) -> Alerts:
    """What anomalies lead to in a shard."""
    return alerts.step(shard, watch.step(shard, Seen(anomalies), None, Names()).watched)


phases = st.lists(
    st.tuples(st.sampled_from(("begin", "end")), st.sampled_from((1, 2)), st.integers(3, 6), st.sampled_from((90.0, 95.5))),
    min_size=1, max_size=8,
)  # fmt: skip


@given(phases, st.randoms(use_true_random=False))
def test_the_same_anomalies_in_any_order_and_cut_give_the_same_alerts(
    said: list[tuple[Any, int, int, float]], chance: random.Random
) -> None:
    """Begins and ends of two episodes, again and in other words: the rows are those of one batch."""
    agent = Agent()
    bodies = [agent.anomaly(phase, at, value, begin=begin).body for phase, begin, at, value in said]
    anomalies = [records.decode(Anomaly, body) for body in bodies]
    whole, cut = Shard(SHARD), Shard(SHARD)
    stepped(whole, anomalies)
    left = [*anomalies, *chance.sample(anomalies, chance.randint(0, len(anomalies)))]
    chance.shuffle(left)
    told = []
    while left:
        size = chance.randint(1, 4)
        told += stepped(cut, left[:size]).notifications
        left = left[size:]
    found, wanted = ({pure(row) for row in one.alerts.rows()} for one in (cut, whole))
    assert found == wanted
    assert len({one.id for one in told}) == len(told)


def test_order_within_a_batch_is_the_order_of_the_bus(side: Side) -> None:
    """All orders of three episodes' sides come to the same three alerts."""
    whole: list[list[str]] = []
    sides: list[tuple[Literal["begin", "end"], int, int]] = [
        ("begin", 1, 1),
        ("end", 4, 1),
        ("begin", 5, 5),
        ("end", 6, 5),
    ]
    for order in permutations(range(4)):
        agent = Agent(f"a{len(whole)}")
        series = f"s1/{agent.name}/x"
        side.take(*(agent.anomaly(sides[n][0], sides[n][1], begin=sides[n][2], series=series) for n in order))
        whole.append([row[0] for row in alert_rows(side) if row[1] == series])
    assert whole == [["resolved", "resolved"]] * 24


def test_notifications_may_be_moved_away_at_any_time(side: Side) -> None:
    """A log rotation renames the file: the next line begins a new one."""
    agent = Agent()
    side.take(agent.anomaly("begin", 1))
    (side.folder / LINES).rename(side.folder / "old.jsonl")
    side.take(agent.anomaly("end", 2, begin=1))
    assert side.told() == ["resolved"]
