"""The life of an alert, by the step alone: a function of the set of evidence, actions, rules and the clock, whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud import alerts, shard
from headwater_cloud.alert_rows import OPEN, AlertRow, of_episode
from headwater_cloud.alerts import Alerts
from headwater_cloud.book import AlertPolicy, Book, Inhibit, Maintenance
from headwater_cloud.completeness import Progress
from headwater_cloud.episodes import Episode, Watched
from headwater_cloud.outputs import Notification
from headwater_cloud.shard import Shard
from headwater_shared.alert_records import Action
from headwater_shared.identity import device_of
from tests.cloud.made import T0, S

MIN = 60 * S
RULES = ("hot", "shakes", "site-down")
SERIES = ("s1/d1/temp", "s1/d2/temp", "s2/d1/temp")
BOOK = Book(
    alerts=AlertPolicy(escalate_us=15 * MIN),
    inhibit=(Inhibit("site-down", ("hot",), "site"),),
    maintenance=(Maintenance("m1", "s1/d2", T0 + 20 * MIN, T0 + 30 * MIN, "ann", "new bearing"),),
)


class Life:
    """A shard's alerts, stepped by hand; its state goes through its pieces whenever asked."""

    def __init__(self, book: Book = BOOK) -> None:
        self.shard = Shard(0, book=book)
        self.shard.agents["a1"] = Progress()
        self.pieces: dict[str, bytes] = {}
        self.said: list[Notification] = []
        self.changes: list[Any] = []
        self.latest: dict[str, Any] = {}

    def step(self, *watched: Watched, at: float | None = None, actions: tuple[Action, ...] = ()) -> Alerts:
        """Take something in; `at`: the clock, in minutes after T0."""
        if at is not None:
            self.shard.clock_us = max(self.shard.clock_us, T0 + round(at * MIN))
        out = alerts.step(self.shard, watched, actions)
        self.pieces |= out.pieces
        self.said += out.notifications
        self.changes += out.changes
        self.latest.update({one.alert.id: one.alert for one in out.changes if one.is_latest})
        assert all(len(body) < 256_000 for body in out.pieces.values())
        return out

    def reload(self) -> None:
        """End the process and start the next one from the pieces."""
        was = self.shard
        self.shard = shard.load(0, self.pieces.items())
        self.shard.clock_us, self.shard.book, self.shard.agents = was.clock_us, was.book, was.agents

    def rows(self) -> list[AlertRow]:
        return sorted(self.shard.alerts.rows(), key=lambda row: row.id)

    def told(self) -> list[str]:
        return [one.state for one in self.said]


def episode(
    begin: float, end: float | None = None, *, rule: str = "hot", subject: str = SERIES[0], severity: str = "warning",
    fired: float | None = -1, evidence: tuple[str, ...] = (),
) -> Episode:  # fmt: skip
    """An episode in minutes after T0."""
    first = begin if fired == -1 else fired
    times = [None if one is None else T0 + round(one * MIN) for one in (begin, first, end)]
    assert times[0] is not None
    return Episode(
        rule, subject, times[0], times[1], times[2], severity, f"{subject} {rule}", 1.0, evidence or (f"{rule}{subject}{begin}",), ("a1",)
    )  # fmt: skip


def watched(*episodes: Episode, forgotten: float = -1e6) -> Watched:
    one = episodes[0]
    return Watched(device_of(one.subject), one.rule, episodes, T0 + round(forgotten * MIN))


def action(of: Episode, what: Any = "ack", at: float = 5, *, who: str = "ann", until: float = 0, whole: bool = False) -> Action:  # fmt: skip
    row = of_episode(device_of(of.subject), of)
    until_us = T0 + round(until * MIN) if until else 0
    at_us = T0 + round(at * MIN)
    name = f"{what}{row.id[:8]}{at_us}{who}"
    return Action(
        name, 0, row.id, row.key, row.rule, row.subject, row.begin_us, what, whole, who, "because", at_us, until_us
    )  # fmt: skip


def pure(row: AlertRow) -> Any:
    """What the row is: without when it was found and told; whether one that is over was muted is not judged again."""
    muted = row.muted if row.over_us is None else ""
    return msgspec.structs.replace(row, known_us=0, told_us=0, muted=muted)


def test_a_begin_fires_at_once_and_an_end_resolves() -> None:
    """The plain life of an alert: two messages, under the ids that they have always had."""
    life = Life()
    life.step(watched(episode(0)), at=1)
    life.step(watched(episode(0, 3)), at=4)
    (row,) = life.rows()
    assert [one.id for one in life.said] == [f"{row.id}/firing", f"{row.id}/resolved"]
    assert [(one.alert.what, one.alert.n) for one in life.changes] == [("firing", 1), ("resolved", 2)]
    assert (row.state, row.over_us, life.said[0].over) == ("resolved", T0 + 3 * MIN, False)


def test_what_was_over_when_it_was_found_is_told_once_and_marked() -> None:
    """The breach is found late and told as then: nobody is woken by a word "firing" for it."""
    life = Life()
    life.step(watched(episode(0, 90)), at=600)
    (one,) = life.said
    assert (one.state, one.over, one.begin_us, one.time_us) == ("resolved", True, T0, T0 + 90 * MIN)
    assert one.known_us == T0 + 600 * MIN


def test_r26_late_evidence_that_moves_the_begin_gives_the_alert_another_id_and_tells_nobody_again() -> None:
    """Acknowledgement and what was told go over; the old id is withdrawn and names the new one."""
    life = Life()
    life.step(watched(episode(10, evidence=("b",))), at=11)
    (old,) = life.rows()
    life.step(actions=(action(episode(10), "ack", 12),), at=12)
    life.step(watched(episode(4, evidence=("a", "b"))), at=14)
    (new,) = life.rows()
    assert (new.begin_us, new.state, new.acked) == (T0 + 4 * MIN, "acknowledged", "ann")
    assert (life.latest[old.id].state, new.id in life.latest[old.id].why) == ("withdrawn", True)
    life.step(at=19)
    assert life.told() == ["firing"]
    life.step(watched(episode(4, 20, evidence=("a", "b"))), at=21)
    assert [one.id for one in life.said[1:]] == [f"{new.id}/resolved"]


def test_an_action_for_an_alert_that_has_another_id_by_now_is_for_that() -> None:
    """The person saw the old id; whether the action or the late evidence comes first makes no difference."""
    for early in (False, True):
        life = Life()
        doing = action(episode(10, evidence=("b",)), "ack", 12)
        if early:
            life.step(actions=(doing,), at=12)
        life.step(watched(episode(4, evidence=("a", "b"))), at=14)
        if not early:
            life.step(actions=(doing,), at=15)
        assert [(row.state, row.acked) for row in life.rows()] == [("acknowledged", "ann")]


def test_what_people_were_told_and_was_not_so_is_withdrawn_and_said() -> None:
    """A revision takes the evidence away: the row is withdrawn, the end is told with why."""
    life = Life()
    other = episode(30, subject="s1/d1/flow")
    life.step(watched(episode(0), other), at=31)
    first, second = sorted(life.rows(), key=lambda row: row.begin_us)
    life.step(watched(other), at=32)
    assert [row.id for row in life.rows()] == [second.id]
    assert life.latest[first.id].state == "withdrawn"
    assert (life.said[-1].id, life.said[-1].text.startswith("it was not so")) == (
        f"{first.id}/resolved",
        True,
    )


def test_a_mute_is_over_by_the_clock_and_what_still_fires_is_told_then() -> None:
    """Muted by a person until minute 19: nothing is said before; the reason and who it was stand in the row."""
    life = Life()
    life.step(actions=(action(episode(5), "mute", 4, until=19),), at=4)
    life.step(watched(episode(5)), at=6)
    assert (life.told(), life.rows()[0].muted) == ([], "muted by ann: because")
    life.step(at=18.9)
    assert life.told() == []
    life.step(at=19)
    assert (life.told(), life.rows()[0].muted) == (["firing"], "")
    assert [one.alert.what for one in life.changes if one.is_event][-1] == "unmuted"


def test_maintenance_mutes_by_the_clock_and_by_event_time_of_what_is_found_late() -> None:
    """In the window nobody is told; what is over inside it never is; what still fires after it is told then."""
    inside, longer = episode(22, 25, subject=SERIES[1]), episode(23, subject=SERIES[1], rule="shakes")
    life = Life()
    life.step(watched(inside), watched(longer), at=26)
    assert life.told() == []
    assert {row.muted for row in life.rows()} == {"maintenance: new bearing"}
    life.step(at=30)
    assert [(one.state, one.rule) for one in life.said] == [("firing", "shakes")]
    late = Life()
    late.step(watched(inside), at=500)
    assert (late.told(), late.rows()[0].muted) == ([], "maintenance: new bearing")


def test_a_site_as_a_whole_is_none_of_the_devices_that_people_are_told_of() -> None:
    """A pattern per site has the site as its subject: devices are counted and named without it."""
    life = Life()
    whole = watched(episode(10, rule="shakes", subject="s1"))._replace(key="s1")
    life.step(watched(episode(10)), whole, at=11)
    life.step(watched(episode(10.5, subject=SERIES[1])), at=18)
    (growing,) = (one for one in life.said if one.state == "growing")
    assert (growing.devices, growing.text[:21]) == (["s1/d1", "s1/d2"], "3 alerts of 2 devices")


def test_an_alert_that_explains_others_mutes_them_while_it_fires() -> None:
    """Whichever comes first in a batch or before; other sites go on; when it ends, what still fires is told."""
    life = Life()
    down = episode(10, rule="site-down", subject="s1/d9/x")
    life.step(watched(episode(10)), watched(down), watched(episode(10, subject=SERIES[2])), at=11)
    assert sorted(one.rule for one in life.said) == ["hot", "site-down"]
    assert {row.subject: row.muted for row in life.rows() if row.rule == "hot"} == {
        SERIES[0]: "site-down fires", SERIES[2]: ""
    }  # fmt: skip
    life.step(watched(episode(12, subject=SERIES[1])), at=13)
    life.step(watched(down._replace(end_us=T0 + 14 * MIN)), at=20)
    growing = [one for one in life.said if one.state == "growing"]
    assert [(one.members, one.devices) for one in growing] == [(3, ["s1/d1", "s1/d2", "s1/d9"])]
    other = Life()
    other.step(watched(episode(9)), at=9)
    other.step(watched(down), at=11)
    (hot,) = (row for row in other.rows() if row.rule == "hot")
    assert (hot.muted, hot.told_us > 0) == ("site-down fires", True)


def test_a_silent_gateway_silences_its_devices() -> None:
    """While its agent is silent nothing more is known: what it said last wakes nobody; when it is back, what still fires is told."""
    life = Life()
    life.shard.agents["a1"].silent = True
    life.step(watched(episode(0)), at=10)
    assert (life.told(), life.rows()[0].muted) == ([], "its gateway a1 is silent")
    life.shard.agents["a1"].silent = False
    life.step(at=11)
    assert (life.told(), life.rows()[0].muted) == (["firing"], "")


def test_devices_of_a_site_that_fail_together_are_one_incident() -> None:
    """Begins at most two minutes apart, one by one: one message at once, one that it grows five minutes later, one end."""
    life = Life()
    names = [f"s1/d{n}/temp" for n in range(6)]
    for n, name in enumerate(names[:5]):
        life.step(watched(episode(1.5 * n, subject=name)), at=1.5 * n + 0.1)
    life.step(watched(episode(30, subject="s2/d0/temp")), watched(episode(8.1, subject=names[5])), at=8.2)
    assert len({row.incident for row in life.rows() if row.site == "s1"}) == 2, (
        "more than two minutes later is another one"
    )
    growing = [one for one in life.said if one.state == "growing"]
    assert [(one.members, one.known_us) for one in growing] == [(5, T0 + round(6.1 * MIN))]
    ends = [watched(episode(1.5 * n, 40, subject=name)) for n, name in enumerate(names[:5])]
    life.step(*ends[:4], at=41)
    life.step(ends[4], at=42)
    lead = min((row for row in life.rows()), key=lambda row: row.begin_us)
    assert [one.id for one in life.said if one.state == "resolved"] == [f"{lead.id}/resolved"]


def test_the_begins_decide_what_is_one_incident_and_not_the_order() -> None:
    """One in the midst joins two incidents; when it is withdrawn they are two again, and nobody is told twice."""
    life = Life()
    ends = [episode(0, subject="s1/d1/temp"), episode(3, subject="s1/d3/temp")]
    middle = episode(1.5, subject="s1/d2/temp")
    life.step(*map(watched, ends), at=4)
    assert len({row.incident for row in life.rows()}) == 2
    life.step(watched(middle), at=4)
    assert len({row.incident for row in life.rows()}) == 1
    told = life.told()
    life.step(Watched("s1/d2", "hot", (), T0 - 10**15), at=5)
    assert len({row.incident for row in life.rows()}) == 2
    assert life.told() == told == ["firing", "firing"]


def test_a_worse_alert_of_an_incident_does_not_wait() -> None:
    """Growth waits for five minutes, but what is worse than people know is told at once, in its own words, to who hears of what fires."""
    life = Life()
    life.step(watched(episode(0)), at=0.1)
    life.step(watched(episode(0.5, subject=SERIES[1])), at=0.6)
    assert life.told() == ["firing"]
    life.step(watched(episode(1, rule="shakes", severity="critical")), at=1.1)
    first, worse = life.said
    assert (worse.state, worse.rule, worse.members, worse.alert) == ("firing", "shakes", 3, first.alert)
    assert worse.id != first.id
    assert "alerts of" not in worse.text
    life.step(at=60)
    assert life.told() == ["firing", "firing", "escalated"]


def test_the_end_of_an_incident_is_as_bad_as_the_worst_that_people_were_told() -> None:
    """Whichever of its alerts ends last: a route for what is critical hears of the end of what it heard of."""
    life = Life()
    life.step(watched(episode(0)), at=0.1)
    life.step(watched(episode(1, rule="shakes", severity="critical")), at=1.1)
    life.step(watched(episode(1, 2, rule="shakes", severity="critical")), at=2.1)
    life.reload()
    life.step(watched(episode(0, 3)), at=3.1)
    assert [(one.state, one.rule, one.severity) for one in life.said] == [
        ("firing", "hot", "warning"), ("firing", "shakes", "critical"), ("resolved", "hot", "critical"),
    ]  # fmt: skip
    for n in range(8):  # whatever the ids are
        life, one, other = Life(), f"s1/d{n}/temp", f"s1/d{n}"
        life.step(
            watched(episode(0, subject=one)),
            watched(episode(0, rule="fails", subject=other, severity="critical")),
            at=1,
        )
        life.step(
            watched(episode(0, 3, subject=one)),
            watched(episode(0, 3, rule="fails", subject=other, severity="critical")),
            at=3.1,
        )
        assert life.said[-1].rule == "fails"


def test_nobody_acknowledges() -> None:
    """15 minutes after people were told it is escalated, once; not if somebody acknowledged, not while it is muted."""
    for doing, wanted in ((None, ["firing", "escalated"]), ("ack", ["firing"]), ("mute", ["firing"])):
        life = Life()
        life.step(watched(episode(0)), at=1)
        life.step(at=15.9)
        if doing:
            life.step(actions=(action(episode(0), doing, 15),), at=15.9)
        life.step(at=16)
        life.step(at=90)
        assert life.told() == wanted, doing
    (row,) = life.rows()
    assert life.said[-1].id == f"{row.id}/firing"


def test_all_of_an_incident_is_acknowledged_at_once() -> None:
    """What had begun by then; what comes to it later fires."""
    life = Life()
    names = [f"s1/d{n}/temp" for n in range(4)]
    life.step(*(watched(episode(0.1 * n, subject=name)) for n, name in enumerate(names[:3])), at=1)
    life.step(actions=(action(episode(0, subject=names[0]), "ack", 1.2, whole=True),), at=1.3)
    assert {row.state for row in life.rows()} == {"acknowledged"}
    life.step(watched(episode(1.5, subject=names[3])), at=2)
    assert Counter(row.state for row in life.rows()) == {"acknowledged": 3, "firing": 1}
    life.reload()
    life.step(watched(episode(0.1, 9, subject=names[1])), at=9)
    assert Counter(row.state for row in life.rows()) == {"acknowledged": 2, "firing": 1, "resolved": 1}


def test_a_person_resolves_what_its_evidence_does_not() -> None:
    """It is over then, and stays so until the evidence ends; who did it and why is an event."""
    life = Life()
    life.step(watched(episode(0)), at=1)
    life.step(actions=(action(episode(0), "resolve", 7),), at=8)
    (row,) = life.rows()
    assert (row.state, row.over_us, row.acked) == ("resolved", T0 + 7 * MIN, "ann")
    assert life.told() == ["firing", "resolved"]
    event = life.changes[-1].alert
    assert (event.what, event.who, event.why, event.state) == ("resolve", "ann", "because", "resolved")
    life.step(watched(episode(0, 30)), at=31)
    assert (life.rows()[0].over_us, len(life.said)) == (T0 + 30 * MIN, 2)


def test_a_rule_that_is_gone_ends_its_open_alerts_and_leaves_the_others() -> None:
    """Whoever takes a rule out need not clear up after it; when it comes back, so does what is still so."""
    life = Life()
    life.step(watched(episode(0, 3), episode(9)), at=10)
    life.step(Watched("s1/d1", "hot", (), T0, gone=True), at=12)
    assert [row.state for row in life.rows()] == ["resolved", "resolved"]
    assert life.changes[-1].alert.why == "its rule is gone"
    life.step(watched(episode(0, 3), episode(9)), at=13)
    assert sorted(row.state for row in life.rows()) == ["firing", "resolved"]


def test_what_was_let_go_of_is_no_withdrawal() -> None:
    """Evidence is bounded: what is over stays as it was, what is open stays open, and ends when its end comes or by a person."""
    life = Life()
    life.step(watched(episode(0, 3), episode(5)), at=10)
    over, opened = sorted(life.rows(), key=lambda row: row.begin_us)
    life.step(watched(episode(50), forgotten=40), at=51)
    assert len(life.rows()) == 3
    assert "withdrawn" not in {alert.state for alert in life.latest.values()}
    life.step(watched(episode(5, 55), episode(50), forgotten=40), at=56)
    assert life.latest[opened.id].state == "resolved"
    life.step(watched(episode(-2, 1), forgotten=60), at=61)
    assert life.latest[over.id].state == "withdrawn", "late evidence still finds it"


def test_what_was_let_go_of_is_bounded() -> None:
    """A hundred a device, over and open each: the oldest leave as they are, the oldest open ones are ended first, and say why."""
    life = Life()
    for n in range(0, 500, 10):
        life.step(watched(*(episode(m + 0.2, m + 0.5) for m in range(n, n + 10)), forgotten=n), at=n + 10)
    ended = [row for row in life.rows() if row.over_us]
    assert len(ended) == 120, "ten are current, and ten were let go of in the last step"
    assert {alert.state for alert in life.latest.values()} == {"resolved"}
    names = [f"s1/d1/m{n}" for n in range(150)]
    for n in range(0, 150, 10):
        life.step(
            watched(*(episode(600 + n, subject=one) for one in names[n : n + 10]), forgotten=599 + n),
            at=601 + n,
        )
    life.step(watched(episode(900), forgotten=899), at=901)
    still = [row for row in life.rows() if row.state == "firing"]
    assert len(still) == 111
    texts = [alert.text for alert in life.latest.values() if "too many alerts of s1/d1 at once" in alert.text]
    assert len(texts) == 40


def test_a_comment_on_an_alert_that_has_left_the_state_is_an_event_of_it() -> None:
    """Nothing that a person said is lost; how the alert stands is not touched."""
    life = Life()
    out = life.step(actions=(action(episode(0), "comment", 7),), at=8)
    (change,) = out.changes
    assert (change.is_latest, change.alert.what, change.alert.why) == (False, "comment", "because")
    assert life.step(actions=(action(episode(0), "comment", 7),), at=9).changes == [], (
        "the same id is the same action"
    )


def test_r24_whatever_happens_a_piece_stays_small() -> None:
    """500 open alerts of one device, with long texts and evidence; 5,000 of a site in a minute: pieces below 256 KB, few messages."""
    life = Life()
    text = "ä" * 3_000
    many = [
        episode(n / 500, subject="s1/d1/temp", evidence=tuple(f"{n:032x}{m}" for m in range(40)))._replace(text=text) for n in range(500)
    ]  # fmt: skip
    life.step(watched(*many), at=1)
    life.step(actions=tuple(action(many[n], "comment", n, who="w" * 128) for n in range(300)), at=2)
    site = Life()
    for batch in range(10):
        site.step(
            *(watched(episode((500 * batch + n) / 5_000, subject=f"s1/e{n}-{batch}/temp")) for n in range(500)), at=batch / 10
        )  # fmt: skip
    assert site.told() == ["firing"]
    site.step(at=5.1)
    assert (site.told(), site.said[-1].members) == (["firing", "growing"], 5_000)
    before = site.rows()
    site.reload()
    site.step(at=5.2)
    assert (site.rows(), len(site.said)) == (before, 2)


# Property tests: a story is a list of facts, each a version of a rule's episodes, an action, or the clock

minutes = st.integers(0, 40)


@st.composite
def stories(draw: Any) -> list[Any]:
    """Episodes of some rules and series, each first open, then over, perhaps with a begin that moves; actions; all by minutes."""
    facts: list[Any] = []
    for rule in RULES:
        for subject in SERIES:
            begins = draw(st.lists(minutes, max_size=2, unique=True))
            begins.sort()
            for n, begin in enumerate(begins):
                room = (begins[n + 1] if n + 1 < len(begins) else 60) - begin - 1
                if room < 1:
                    continue
                end = draw(st.one_of(st.none(), st.integers(0, room)))
                earlier = draw(st.integers(0, 0 if n else min(begin, 5)))
                severity = draw(st.sampled_from(("info", "warning", "critical")))
                facts.append(
                    (rule, subject, begin, begin - earlier, None if end is None else begin + end, severity)
                )
    return facts


def states_of(facts: list[Any], known: dict[int, int]) -> list[Watched]:
    """All episodes of each key and rule, as far as each is known: 1 its first evidence, 2 with its end, 3 with what came late."""
    of: dict[tuple[str, str], list[Episode]] = {}
    for n, (rule, subject, begin, early, end, severity) in enumerate(facts):
        level = known.get(n, 0)
        if not level:
            continue
        first = early if level == 3 else begin
        over = end if level >= 2 else None
        one = episode(first, over, rule=rule, subject=subject, severity=severity, evidence=(f"e{n}",))
        of.setdefault((device_of(subject), rule), []).append(one)
    return [Watched(key, rule, tuple(some), T0 - 10**15) for (key, rule), some in of.items()]


def final(facts: list[Any], actions: list[Action], book: Book, clock: float, silent: bool) -> Life:
    """All at once."""
    life = Life(book)
    life.shard.agents["a1"].silent = silent
    life.step(*states_of(facts, dict.fromkeys(range(len(facts)), 3)), actions=tuple(actions), at=clock)
    return life


ACTIONS = ("ack", "resolve", "mute", "unmute", "comment")


@given(
    stories(), st.lists(st.tuples(st.integers(0, 30), st.sampled_from(ACTIONS), minutes, st.booleans(), st.booleans()), max_size=5),
    st.randoms(use_true_random=False), st.booleans(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_r26_the_rows_are_a_function_of_the_set_of_evidence_actions_and_the_clock(
    facts: list[Any], doings: list[Any], chance: random.Random, silent: bool
) -> None:
    """Any order, again, cut into any batches, over restarts: the same rows, but for what was withdrawn; each message once; nothing
    that is open goes untold, unless it is muted or part of an incident that was told of.
    """
    actions = []
    for n, what, at, whole, moved in doings:
        if facts:
            rule, subject, begin, early, end, severity = facts[n % len(facts)]
            one = episode(begin if moved else early, end, rule=rule, subject=subject, severity=severity)
            until = at + 10 if what == "mute" and n % 2 else 0
            actions.append(action(one, what, at, until=until, whole=whole, who=f"p{n}"))
    wanted = final(facts, actions, BOOK, 45, silent)
    life = Life()
    known: dict[int, int] = {}
    left: list[Any] = [
        (n, level) for n in range(len(facts)) for level in (1, 2, 3) if level == 3 or chance.random() < 0.7
    ]
    left += actions + chance.sample(actions, len(actions) // 2)
    toggles, reloads = chance.random() < 0.3, chance.random() < 0.3
    chance.shuffle(left)
    while left:
        size = chance.randint(1, 4)
        some, left = left[:size], left[size:]
        doing = tuple(one for one in some if isinstance(one, Action))
        touched = set()
        for one in some:
            if not isinstance(one, Action):
                n, level = one
                known[n] = max(known.get(n, 0), level)
                touched.add((device_of(facts[n][1]), facts[n][0]))
        now = [one for one in states_of(facts, known) if (one.key, one.rule) in touched]
        clock = chance.choice((None, chance.uniform(0, 44)))
        life.shard.agents["a1"].silent = toggles and chance.random() < 0.5
        life.step(*now, actions=doing, at=clock)
        check_untold(life)
        if reloads and chance.random() < 0.3:
            life.reload()
    life.shard.agents["a1"].silent = silent
    life.step(at=45)
    assert [pure(row) for row in life.rows()] == [pure(row) for row in wanted.rows()]
    stored = {at: alert for at, alert in life.latest.items() if alert.state != "withdrawn"}
    assert {
        at: (a.state, a.incident, a.end_us, a.muted * (a.end_us is None)) for at, a in stored.items()
    } == {row.id: (row.state, row.incident, row.over_us, pure(row).muted) for row in wanted.rows()}
    assert max(Counter(one.id for one in life.said).values(), default=1) == 1
    check_untold(life)
    life.reload()
    life.step(at=120)
    check_untold(life)
    untold = [row for row in life.rows() if row.state in OPEN and not row.muted and not row.told_us]
    assert untold == [], "by now all that grew is told"


def check_untold(life: Life) -> None:
    """What is open, and that nobody heard of, is muted, or of an incident that was told and will grow by the clock."""
    for row in life.rows():
        if row.state in OPEN and not row.muted and not row.told_us:
            incident = life.shard.alerts.sites[row.site].of(row)
            assert incident is not None
            assert incident.told.said
            assert any(what == f"@{row.site}" for _, what in life.shard.alerts.timers)
