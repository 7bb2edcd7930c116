"""Evidence of a key is bounded: what is let go, what stays known of it, and that nobody sees the difference in time."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud import kept_evidence
from headwater_cloud.book import AlertPolicy, Book, Pattern, Step
from headwater_cloud.episodes import Episode
from headwater_cloud.matching import index_of
from headwater_cloud.watch import Seen
from headwater_shared.records import Anomaly, Device
from tests.cloud.test_patterns import SHORT, patterns
from tests.cloud.test_watch import HOME, ROWS, Side, anomaly

HOUR = 3_600_000_000
PIECE = 256_000

Rows = dict[tuple[str, str, str, int], tuple[object, ...]]


class Told(Side):
    """A shard, and the rows that alerts would have: what ended before something was let go stays as it was."""

    def __init__(self, book: Book, keep_us: int | None = None) -> None:
        super().__init__(book)
        self.rows: Rows = {}
        self.keep_us = keep_us

    def take(self, seen: Seen, clock: int = 0, complete: dict[str, int] | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN201
        index_of(self.shard.book).keep_us = HOUR if self.keep_us is None else self.keep_us
        found = super().take(seen, clock, complete)
        for of in found.watched:
            for at, row in list(self.rows.items()):
                end = row[1]
                if at[:2] == (of.key, of.rule) and not (isinstance(end, int) and end <= of.forgotten_us):
                    del self.rows[at]
            for e in of.episodes:
                self.rows[of.key, of.rule, e.subject, e.begin_us] = plain(e)
        return found


def plain(e: Episode) -> tuple[object, ...]:
    return e.fired_us, e.end_us, e.severity


@settings(max_examples=100, deadline=None)
@given(
    st.lists(patterns(), max_size=1),
    st.lists(ROWS, min_size=3, max_size=6),
    SHORT, st.randoms(use_true_random=False),
)  # fmt: skip
def test_what_is_let_go_is_not_missed_where_evidence_comes_in_time(
    some: list[Pattern], acts: list[list[Anomaly]], calm: int, chance: object
) -> None:
    """As far back as a pattern reaches evidence is kept; beyond, what is known of its episodes is, and they go on as they were."""
    named = tuple(
        msgspec.structs.replace(one, name=f"p{n}", within_us=min(one.within_us, 3)) for n, one in enumerate(some)
    )  # fmt: skip
    named += (Pattern("then", within_us=3, sequence=(Step("anomaly", "a"), Step("anomaly", "[bc]"))),)
    named += (Pattern("many", within_us=3, of=Step("anomaly"), count=2, distinct="series", calm_us=2),)
    reach = max(2 * one.within_us + one.for_us + one.calm_us + 4 for one in named)
    book = Book(named, alerts=AlertPolicy(calm_us=calm))
    whole, small = Told(book), Told(book, max(reach, calm))
    tape = [
        msgspec.structs.replace(one, id=f"{n}{one.id}", begin_us=one.begin_us + 15 * n, time_us=one.time_us + 15 * n)
        for n, rows in enumerate(acts)
        for one in rows
    ]  # fmt: skip
    now = 1
    for one in sorted(tape, key=lambda row: row.time_us):
        now = max(now, one.time_us)
        for side in (whole, small):
            side.take(Seen([one]), now, {"x": now, "y": now})
            if chance.random() < 0.1:  # type: ignore[attr-defined]
                side.restart()
    for side in (whole, small):
        side.take(Seen(), now + 100, {"x": now + 100, "y": now + 100})
    assert small.rows == whole.rows


def test_a_match_whose_first_evidence_is_long_over_goes_on_while_its_last_is_so() -> None:
    """Shakes for a minute, then is warm for three days: one alert, from the first on, though the first evidence was let go."""
    bearing = Pattern(
        "bearing", within_us=HOUR, sequence=(Step("anomaly", "shakes"), Step("anomaly", "warm"))
    )
    side = Side(Book((bearing,)))
    side.take(Seen([anomaly("a", "shakes", 1, 0), anomaly("a", "shakes", 1, 0, 60)]), 100, {"x": 100})
    side.take(Seen([anomaly("b", "warm", 1, HOUR // 2)]), HOUR, {"x": HOUR})
    for hour in range(1, 72):
        at = hour * HOUR
        noise = [anomaly(f"n{hour}", "noise", 1, at), anomaly(f"n{hour}", "noise", 1, at, at + 1)]
        side.take(Seen(noise), at, {"x": at})
    (episode,) = side.known["s/d1", "bearing"]
    assert (episode.begin_us, episode.end_us) == (0, None)
    assert "a" not in side.shard.evidence["s/d1"].evidence
    side.restart()
    side.take(Seen([anomaly("b", "warm", 1, HOUR // 2, 80 * HOUR)]), 81 * HOUR, {"x": 81 * HOUR})
    (episode,) = side.known["s/d1", "bearing"]
    assert (episode.begin_us, episode.end_us, episode.evidence[0]) == (0, 80 * HOUR, "a")


def test_r24_ten_thousand_anomalies_of_a_device_stay_one_small_piece() -> None:
    """Bounded by number, counted, noted up to when; the alert that is still on is not among what is forgotten."""
    hot = Pattern("often", within_us=HOUR, of=Step("anomaly", "*"), count=3)
    side = Side(Book((hot,)))
    side.take(Seen([anomaly("first", "stays", 1, 0)]), 1, {"x": 1})
    forgotten = 0
    for n in range(1, 10_001, 100):
        rows = [
            anomaly(f"e{k}", "flaps", 1, k * 1_000, end) for k in range(n, n + 100) for end in (None, k * 1_000 + 10)
        ]  # fmt: skip
        forgotten += side.take(Seen(rows), n * 1_000, {"x": n * 1_000}).forgotten
    kept = side.shard.evidence["s/d1"]
    assert len(kept.evidence) == kept_evidence.MOST
    assert forgotten == 10_001 - kept_evidence.MOST
    assert "first" in kept.evidence
    assert kept.forgotten_us == (10_000 - kept_evidence.MOST + 1) * 1_000 + 10
    assert len(side.shard.evidence_pieces(["s/d1"], rules=False)["evidence/s/d1"]) < PIECE
    (episode,) = side.known["s/d1", "often"]
    assert (episode.begin_us, episode.end_us) == (0, None)


def test_r24_long_names_and_texts_stay_one_small_piece() -> None:
    """Bounded in bytes, too: four bytes a character, as many open ones as there may be, in patterns that all of them are part of."""
    many = tuple(
        Pattern(f"p{n}", within_us=HOUR, of=Step("anomaly"), count=2 + n, calm_us=HOUR) for n in range(20)
    )
    side = Side(Book(many))
    for n in range(40):
        rows = [
            msgspec.structs.replace(
                anomaly(f"{k:032}", "\U0001f600" * 100, 1, k * 1_000, None if k % 3 else k * 1_000 + 5), text="\U0001f600" * 5_000
            )
            for k in range(n * 20, n * 20 + 20)
        ]  # fmt: skip
        side.take(Seen(rows), n * 20_000, {"x": n * 20_000})
        body = side.shard.evidence_pieces(["s/d1"], rules=False)["evidence/s/d1"]
        assert len(body) < PIECE
    assert len(side.shard.evidence["s/d1"].evidence) > 50


def test_what_comes_hours_late_is_told_though_newer_is_known() -> None:
    """A truck comes back with its backlog: its anomaly is older than all that is kept, and is an episode all the same, over then."""
    side = Side(Book())
    side.take(Seen([anomaly("new", "hot", 1, 50 * HOUR)]), 50 * HOUR, {"x": 50 * HOUR})
    late = [anomaly("old", "hot", 1, HOUR), anomaly("old", "hot", 1, HOUR, 2 * HOUR)]
    side.take(Seen(late), 50 * HOUR, {"x": 50 * HOUR})
    assert [(e.begin_us, e.end_us) for e in side.known["s/d1", "hot"]] == [
        (HOUR, 2 * HOUR),
        (50 * HOUR, None),
    ]
    side.take(Seen([anomaly("new", "hot", 1, 50 * HOUR, 51 * HOUR)]), 51 * HOUR, {"x": 51 * HOUR})
    assert [e.begin_us for e in side.known["s/d1", "hot"]] == [50 * HOUR]
    assert side.shard.evidence["s/d1"].forgotten_us == 2 * HOUR, "alerts leave what ended before as it is"


_SEQUENCE = Pattern("bearing", within_us=HOUR, sequence=(Step("anomaly", "shakes"), Step("anomaly", "warm")))


def test_a_backlog_that_comes_in_pieces_after_newer_evidence_is_one_match() -> None:
    """The agent was cut off: what is new comes first, then, batch by batch, what was long before; no piece is let go before the next."""
    side = Side(Book((_SEQUENCE,)))
    side.take(Seen([anomaly("new", "flaps", 1, 50 * HOUR, 50 * HOUR)]), 50 * HOUR, {"x": 0})
    for row in (anomaly("a", "shakes", 1, HOUR, HOUR + 60), anomaly("b", "warm", 1, HOUR + 120, HOUR + 180)):
        side.take(Seen([row]), 50 * HOUR, {"x": HOUR})
    (episode,) = side.known["s/d1", "bearing"]
    assert (episode.begin_us, episode.evidence) == (HOUR, ("a", "b"))
    side.take(Seen([anomaly("end", "flaps", 1, 51 * HOUR, 51 * HOUR)]), 51 * HOUR, {"x": 51 * HOUR})
    assert "a" not in side.shard.evidence["s/d1"].evidence, "once the agent has sent all, what is old goes"


def test_a_device_with_old_readings_and_a_status_of_now_is_one_match() -> None:
    """A device kept its readings for hours and is online now: its status is no reason to let go of what they say."""
    side = Side(Book((_SEQUENCE,)))
    now = 50 * HOUR
    online = Device("x", 1, HOME, 1, 1, None, "on", "s/d1", "online", "", 0, "reading", now, now)
    side.take(Seen(devices=[online]), now, {"x": now})
    for row in (anomaly("a", "shakes", 1, HOUR, HOUR + 60), anomaly("b", "warm", 1, HOUR + 120, HOUR + 180)):
        side.take(Seen([row]), now, {"x": now})
    (episode,) = side.known["s/d1", "bearing"]
    assert episode.evidence == ("a", "b")


def test_an_agent_that_is_gone_for_good_holds_no_evidence_of_others() -> None:
    """Of a site with an agent that was taken down, evidence goes by age again after a week."""
    site = Pattern("site", within_us=HOUR, per="site", of=Step("anomaly", "*"), count=50)
    side = Side(Book((site,)))
    side.take(Seen([anomaly("old", "hot", 1, 0, 60, "gone")]), 100, {"gone": 100, "x": 100})
    for day in (1, 6, 8):
        at = day * 24 * HOUR
        side.take(Seen([anomaly(f"n{day}", "hot", 2, at, at)]), at, {"x": at})
        assert ("old" in side.shard.evidence["s"].evidence) == (day < 7), day


@pytest.mark.parametrize("far", [1, 10])
def test_a_key_that_is_quiet_keeps_what_it_has(far: int) -> None:
    """Age is told by the newest of the key's own evidence: time that passes elsewhere takes nothing."""
    side = Side(Book())
    side.take(Seen([anomaly("a", "hot", 1, 0, 10)]), 100, {"x": 100})
    side.take(Seen([anomaly("b", "hot", 2, far * HOUR)]), far * HOUR, {"x": 100})
    assert "a" in side.shard.evidence["s/d1"].evidence
