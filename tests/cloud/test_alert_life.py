"""The life of an alert, by the step alone: a function of the set of evidence, actions, rules and the clock, whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud import alerts, shard
from headwater_cloud.alert_rows import OPEN, AlertRow
from headwater_cloud.alerts import Alerts
from headwater_cloud.book import AlertPolicy, Book, Inhibit, Maintenance
from headwater_cloud.completeness import Progress
from headwater_cloud.episodes import Episode, Watched
from headwater_cloud.outputs import Notification
from headwater_cloud.shard import Shard
from headwater_shared.identity import device_of
from headwater_shared.records import Action
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
    row = alerts.alert_life.of_episode(device_of(of.subject), of)
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


def test_first() -> None:
    life = Life()
    life.step(watched(episode(0)), at=1)
    assert life.told() == ["firing"]
    life.step(watched(episode(0, 3)), at=4)
    assert life.told() == ["firing", "resolved"]
    assert [row.state for row in life.rows()] == ["resolved"]


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
                facts.append((rule, subject, begin, begin - earlier, None if end is None else begin + end, severity))
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
@settings(max_examples=150, deadline=None)
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
    left: list[Any] = [(n, level) for n in range(len(facts)) for level in (1, 2, 3) if level == 3 or chance.random() < 0.7]
    left += actions + chance.sample(actions, len(actions) // 2)
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
        life.shard.agents["a1"].silent = chance.random() < 0.3
        life.step(*now, actions=doing, at=clock)
        check_untold(life)
        if chance.random() < 0.3:
            life.reload()
    life.shard.agents["a1"].silent = silent
    life.step(at=45)
    assert [pure(row) for row in life.rows()] == [pure(row) for row in wanted.rows()]
    stored = {at: alert for at, alert in life.latest.items() if alert.state != "withdrawn"}
    assert {at: (a.state, a.incident, a.end_us, a.muted * (a.end_us is None)) for at, a in stored.items()} == {
        row.id: (row.state, row.incident, row.over_us, pure(row).muted) for row in wanted.rows()
    }
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
