"""Evidence in any order, twice, late, revised, through `watch.step`: the episodes are those of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud import shard as shards
from headwater_cloud import watch
from headwater_cloud.book import AlertPolicy, Book, Pattern, Step
from headwater_cloud.completeness import Progress
from headwater_cloud.episodes import Episode
from headwater_cloud.evidence import Evidence, joined, of_anomaly
from headwater_cloud.names import Names
from headwater_cloud.shard import Shard
from headwater_cloud.watch import Seen
from headwater_shared.identity import shard_of
from headwater_shared.records import Anomaly
from tests.cloud import plain_patterns
from tests.cloud.test_patterns import SHORT, patterns

SITE = "s"
HOME = shard_of(SITE)
U = 1_000_000
"""A unit of the tests' times: within an hour of each other nothing is let go."""

Known = dict[tuple[str, str], tuple[Episode, ...]]


def anomaly(
    id_: str, rule: str, device: int, begin: int, end: int | None = None, agent: str = "x"
) -> Anomaly:
    """The begin of an anomaly, or its end."""
    phase: Literal["begin", "end"] = "begin" if end is None else "end"
    time = begin if end is None else end
    return Anomaly(
        agent, 1, HOME, 1, 1, None, id_, rule, f"s/d{device}/m", phase, begin, time, float(begin), 0.0, "warning", "bad",
    )  # fmt: skip


class Side:
    """A shard, and what alerts would know of its episodes."""

    def __init__(self, book: Book) -> None:
        self.shard = Shard(HOME, clock_us=1, book=msgspec.structs.replace(book, time_us=1))
        self.known: Known = {}

    def take(self, seen: Seen, clock: int = 0, complete: dict[str, int] | None = None) -> watch.Step:
        self.shard.clock_us = max(self.shard.clock_us, clock)
        for agent, until in (complete or {}).items():
            self.shard.agents.setdefault(agent, Progress()).complete_us = until
        found = watch.step(self.shard, seen, None, Names())
        for of in found.watched:
            self.known[of.key, of.rule] = of.episodes
        return found

    def restart(self) -> None:
        """A new process reads the state."""
        before = self.shard
        pieces = before.evidence_pieces(before.evidence, rules=True) | before.pieces([], before.agents)
        self.shard = shards.load(HOME, pieces.items())
        assert (self.shard.evidence, self.shard.book) == (before.evidence, before.book)


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 9), st.sampled_from([None, 0, 0, 1, 2, 5]),
        st.sampled_from(["x", "y"]),
    ),
    max_size=6,
).map(
    lambda rows: [
        anomaly(f"e{n}", rule, device, begin, None if at == 0 else end, agent)
        for n, (rule, device, begin, length, agent) in enumerate(rows)
        for at, end in enumerate([None] if length is None else [None, begin + length])
    ]
)  # fmt: skip


def words(some: Sequence[Anomaly]) -> list[Evidence]:
    """All evidence, of each id all words together."""
    out: dict[str, Evidence] = {}
    for one in map(of_anomaly, some):
        out[one.id] = joined(out[one.id], one) if one.id in out else one
    return list(out.values())


def plainly(known: Iterable[Episode]) -> list[tuple[object, ...]]:
    return [(e.begin_us, e.fired_us, e.end_us, e.last_us, frozenset(e.evidence)) for e in known]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(patterns(), min_size=1, max_size=2), ROWS, st.sampled_from(["device", "site"]),
    st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), SHORT, st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_order_of_arrival_gives_the_episodes_of_all_evidence(
    some: list[Pattern], rows: list[Anomaly], per: str, clock: int, x: int, y: int, calm: int, chance: Random
) -> None:
    """Shuffled, repeated, cut into batches anywhere, with restarts, clock and agents going on in between."""
    named = tuple(
        msgspec.structs.replace(one, name=f"p{n}", per=per) for n, one in enumerate(some)
    )  # fmt: skip
    side = Side(Book(named, alerts=AlertPolicy(calm_us=calm)))
    side.take(Seen(), 1, {"x": 0, "y": 0})
    tape = rows + chance.sample(rows, len(rows) // 2)
    chance.shuffle(tape)
    now = {"x": 0, "y": 0, "clock": 1}
    while tape:
        n = chance.randint(1, len(tape))
        batch, tape = tape[:n], tape[n:]
        for name, most in (("x", x), ("y", y), ("clock", clock)):
            now[name] = max(now[name], chance.randint(0, most))
        side.take(Seen(batch), now["clock"], {"x": now["x"], "y": now["y"]})
        if chance.random() < 0.3:
            side.restart()
    clock = max(clock, 1)
    side.take(Seen(), clock, {"x": x, "y": y})

    def complete_of(agent: str) -> int:
        return {"x": x, "y": y}[agent]

    every = words(rows)
    keys = {one.device for one in every} if per == "device" else {SITE}
    for pattern in named:
        for key in keys:
            mine = [one for one in every if per == "site" or one.device == key]
            wanted = plain_patterns.episodes(pattern, mine, clock, complete_of)
            assert plainly(side.known.get((key, pattern.name), ())) == [tuple(one) for one in wanted]
    for one in every:
        own = Pattern(one.name, of=Step("anomaly", one.name, one.subject), count=1, calm_us=calm)
        wanted = plain_patterns.episodes(own, every, clock, complete_of)
        known = [e for e in side.known[one.device, one.name] if e.subject == one.subject]
        assert plainly(known) == [tuple(one) for one in wanted]
