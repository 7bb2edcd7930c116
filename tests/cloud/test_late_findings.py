"""Findings of a comparison that come late, or once more: what becomes of their run, and of its alert."""

from __future__ import annotations

import msgspec

from headwater_cloud.book import Book
from headwater_cloud.watch import Seen
from headwater_shared.peers import Finding
from tests.cloud.test_watch import HOME, Side, anomaly

AT, WINDOW = 1_000_000_000, 10_000_000
DAYS = 86_400_000_000
FOUND = Finding(
    "f1", "odd", "M", "s/d1", "flow", "10s", AT, WINDOW, HOME, "x", 1, True, 9.0, 5.0, 1.0, 4.0, 7, "warning", "9, where 7 have 5",
)  # fmt: skip


def test_an_alert_of_windows_that_are_let_go_ends_with_the_last_of_them() -> None:
    """Its agent is away for more than a week, and another one has news of the device: its evidence is let go while it may still go on;
    then its end is known: that of the window.
    """
    side = Side(Book())
    side.take(Seen(findings=[FOUND]), AT, {"x": AT})
    (before,) = side.known["s/d1", "odd"]
    assert (before.begin_us, before.end_us) == (AT, None)
    later = AT + 8 * DAYS
    side.take(Seen([anomaly("news", "hot", 1, later, None, "y")]), later, {"x": AT, "y": later})
    assert not any(one.kind == "peer" for one in side.shard.evidence["s/d1"].evidence.values())
    side.restart()
    side.take(Seen(findings=[]), later + 1, {"x": later + 1})
    (after,) = side.known["s/d1", "odd"]
    assert (after.begin_us, after.end_us) == (AT, AT + WINDOW)


def test_the_word_of_a_run_is_the_latest_of_its_last_window() -> None:
    """A window that is judged anew, with more peers, says what is true now; what it said before is forgotten, in whatever run it is."""
    side = Side(Book())
    second = msgspec.structs.replace(FOUND, id="f2", start_us=AT + WINDOW)
    again = msgspec.structs.replace(second, made_us=2, value=8.5, peers=9, text="8.5, where 9 have 5")
    side.take(Seen(findings=[FOUND, second]), AT, {"x": AT})
    side.take(Seen(findings=[again]), AT, {"x": AT})
    (one,) = side.known["s/d1", "odd"]
    assert (one.begin_us, one.value, one.text) == (AT, 8.5, "8.5, where 9 have 5")
