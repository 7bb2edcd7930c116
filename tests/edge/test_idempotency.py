"""Idempotency keys in the step: a request is one unit, counted once, over any restart; another one under its key is refused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from headwater_edge import idempotency, journal, snapshot
from headwater_edge.events import Keyed, Start
from headwater_edge.idempotency import Verdict
from headwater_edge.snapshot import fingerprint
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_shared.clock import HELD, SYNCHRONISED, SetClock
from tests.edge.feed import DAY, Feed, Message, S, step_settings_of

REPEATED, REFUSED = Verdict.REPEATED, Verdict.REFUSED
Posted = tuple[int, int, int]
"""Key, content, number of messages."""


class Posts:
    """A state that takes requests of readings without a time: nothing but the key can tell that one came before."""

    def __init__(self) -> None:
        self.clock = SetClock(DAY)
        self.feed = Feed()
        self.state = State(step_settings_of())
        self.rows: list[bytes] = []
        self._number = 0
        self.tick([], Start(1, "test"))

    def tick(self, posted: Iterable[Posted], *first: Start) -> list[Verdict | None]:
        """Step one tick of requests; return the verdict of each."""
        messages: list[Message] = []
        events: list[tuple[int, Keyed]] = []
        for key, content, n in posted:
            self._number += 1
            events.append((len(messages), Keyed(self._number, key, content, n)))
            messages += [Message((("s1/d1/temp", None, float(content)),))] * n
        tick = self.feed.tick(self.clock.now(), messages, *first)
        tick.events += events
        self.rows.append(journal.encode(tick))
        output = step(self.state, tick)
        assert output.verdicts.keys() <= {event.request for _, event in events}
        return [output.verdicts.get(event.request) for _, event in events]

    def post(self, key: int, content: int, n: int = 1) -> Verdict | None:
        (verdict,) = self.tick([(key, content, n)])
        return verdict

    @property
    def counted(self) -> int:
        return self.state.counters.accepted

    def restart(self, picture: snapshot.Picture | None = None) -> None:
        """Go on with what snapshot and journal give back; equal to the last bit (R31)."""
        state = snapshot.restore(picture) if picture else State(step_settings_of())
        for row in self.rows[state.tick :]:
            step(state, journal.decode(row))
        assert fingerprint(state) == fingerprint(self.state)
        self.state = state
        self.tick([], Start(2, "test"))

    def picture(self) -> snapshot.Picture:
        taken = snapshot.take(self.state)
        return snapshot.decode(taken.tick, snapshot.encode(taken))


def test_r12_a_request_counts_once_under_its_key() -> None:
    """The same key and content again is acknowledged and not counted, in the same tick as in a later one."""
    posts = Posts()
    assert posts.tick([(7, 1, 2), (7, 1, 2), (8, 1, 1)]) == [None, REPEATED, None]
    assert posts.post(7, 1, 2) is REPEATED
    assert posts.counted == 3
    assert posts.state.counters.by_transport == 4


def test_r12_a_request_is_one_unit() -> None:
    """All messages of a repeated request are left out, and none of its neighbours in the tick."""
    posts = Posts()
    posts.post(1, 1, 3)
    assert posts.tick([(2, 2, 2), (1, 1, 3), (3, 3, 1)]) == [None, REPEATED, None]
    assert posts.counted == 3 + 3


def test_another_request_under_a_known_key_is_refused_whole() -> None:
    """Nothing of it counts, and it does not take the place of the first, which is still known."""
    posts = Posts()
    posts.post(1, 1)
    assert posts.tick([(1, 2, 5), (1, 1, 1), (1, 2, 5)]) == [REFUSED, REPEATED, REFUSED]
    assert posts.counted == 1


@pytest.mark.parametrize("pictured", [False, True])
def test_r12_keys_outlive_a_restart(pictured: bool) -> None:
    """From the journal and from a snapshot alike; and keys that came after the snapshot, from both."""
    posts = Posts()
    posts.tick([(1, 1, 1), (2, 2, 1)])
    picture = posts.picture() if pictured else None
    posts.post(3, 3)
    posts.restart(picture)
    assert posts.tick([(1, 1, 1), (2, 9, 1), (3, 3, 1), (4, 4, 1)]) == [REPEATED, REFUSED, REPEATED, None]
    assert posts.counted == 4


def test_a_snapshot_of_before_there_were_keys_can_be_read() -> None:
    """It knows none."""
    posts = Posts()
    picture = posts.picture()
    del picture.scalars["idempotency"]
    for name in ("idempotency.young", "idempotency.old"):
        del picture.arrays[name]
    posts.restart(picture)
    assert posts.post(1, 1) is None
    assert posts.post(1, 1) is REPEATED


def test_keys_are_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is known until so many others came after it; never are more than twice as many remembered."""
    monkeypatch.setattr(idempotency, "KEPT", 10)
    posts = Posts()
    for key in range(1, 101):
        assert posts.post(key, 0) is None
        for before in range(max(1, key - 9), key):
            assert posts.post(before, 0) is REPEATED
        kept = posts.state.idempotency
        assert len(kept._young) + len(kept._old) <= 20
    assert posts.post(1, 0) is None
    posts.restart()


def test_keys_are_bounded_by_age() -> None:
    """A day later a key is still known; after two days without it, it is free again."""
    posts = Posts()
    posts.post(1, 1)
    posts.clock.advance(23.9 * 3600)
    assert posts.post(2, 2) is None
    assert posts.post(1, 2) is REFUSED
    posts.clock.advance(24.0 * 3600)
    assert posts.post(2, 3) is REFUSED
    posts.clock.advance(49 * 3600)
    assert posts.tick([(1, 5, 1), (2, 5, 1)]) == [None, None]


def test_r08_a_clock_that_jumps_ages_no_key() -> None:
    """A boot in 1970 and the jump to today after it, and one back: the key is known all the while."""
    posts = Posts()
    posts.clock.quality, posts.clock.wall_us = HELD, 5 * S
    posts.post(1, 1)
    posts.clock.quality, posts.clock.wall_us = SYNCHRONISED, DAY
    assert posts.post(1, 1) is REPEATED
    posts.clock.boot, posts.clock.mono_us, posts.clock.wall_us = "another", 0, DAY - 86_400 * 30 * S
    assert posts.post(1, 1) is REPEATED
    posts.clock.boot, posts.clock.wall_us = "a third", DAY + 86_400 * S
    assert posts.post(2, 2) is None
    posts.clock.boot, posts.clock.wall_us = (
        "a fourth",
        DAY + 4 * 86_400 * S,
    )  # the clock was right on both boots
    assert posts.post(1, 1) is None
