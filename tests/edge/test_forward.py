"""From the outbox to a real bus, step by step: what goes first, what stays, what a bus that is away changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from headwater_edge.outbox import BATCH as _BATCH
from headwater_edge.outbox import BEHIND as _BACKLOG
from headwater_edge.output import Completeness
from headwater_edge.store import ANOMALIES, WINDOWS, Chores, write
from headwater_shared import records, trace
from headwater_shared.agent_status import AgentStatus
from headwater_shared.identity import agent_shard
from headwater_shared.records import Heartbeat
from tests.edge.forwarding import AGENT, EPOCH, SHARD, Desk, have_record
from tests.edge.running import AwayBus


def test_anomalies_go_before_windows(desk: Desk) -> None:
    """In one look at the outbox the lane of anomalies is emptied first, each lane in its own order."""
    desk.put(WINDOWS, 2)
    desk.put(ANOMALIES, 2)
    desk.forward.once()
    assert desk.arrived() == [3, 4, 1, 2]
    assert desk.forward.mode == "live"
    kinds = [stored.headers["ce_type"] for stored in desk.on_bus()]
    assert kinds == ["io.headwater.anomaly"] * 2 + ["io.headwater.frame"] * 2
    assert desk.on_bus()[0].headers["ce_id"] == f"a1/{EPOCH:016x}/7/3"


def test_each_row_has_a_trace_of_its_own(desk: Desk) -> None:
    """Made of its identity: what is sent again, to another bus or by another process, is in the same trace."""
    desk.put(WINDOWS, 2)
    desk.put(ANOMALIES, 1)
    desk.forward.once()
    sent = [stored.headers for stored in desk.on_bus()]
    assert [one["traceparent"] for one in sent] == [trace.traceparent(one["ce_id"]) for one in sent]
    assert len({trace.of(one) for one in sent} - {""}) == 3


class Asking:
    """A reader that asks how many rows wait whenever the outbox is looked at: as another thread may at any time."""

    def __init__(self, desk: Desk) -> None:
        self._forward = desk.forward
        self._reader = desk.forward.outbox._reader
        self.told: list[int] = []

    def execute(self, *words: object) -> sqlite3.Cursor:
        self.told.append(self._forward.pending)
        return self._reader.execute(*words)  # type: ignore[arg-type]

    def close(self) -> None:
        self._reader.close()


def test_rows_that_wait_are_never_said_to_be_gone(desk: Desk) -> None:
    """While the outbox is looked at, too: who waits for 0 must not be told so in between."""
    desk.forward.once()
    desk.put(WINDOWS, 24)
    desk.forward.wake(24)
    asking = Asking(desk)
    desk.forward.outbox._reader = asking  # type: ignore[assignment]
    desk.forward.once()
    assert min(asking.told) == 24
    assert desk.forward.pending == 24
    again = desk.opened()  # the next process, before its first look
    assert again.pending == 24
    again.close()
    desk.have(1, 24)
    desk.forward.once()
    assert desk.forward.pending == 0


def test_a_sent_row_is_not_sent_again_even_by_the_next_process(desk: Desk) -> None:
    """What was delivered is remembered in the file, by lane."""
    desk.put(WINDOWS, 2)
    desk.put(ANOMALIES)
    desk.forward.once()
    desk.do_chores()
    desk.forward.close()
    desk.forward = desk.opened()
    desk.put(WINDOWS)
    desk.forward.once()
    assert desk.arrived() == [3, 1, 2, 4]


def test_r22_a_row_stays_until_the_cloud_has_it_and_both_snapshots_are_after_it(desk: Desk) -> None:
    """Delivery does not delete, `have` alone does not, an older snapshot alone does not: both together do."""
    for _ in range(3):
        desk.put()
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == [1, 2, 3]
    desk.have(1, 2)
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == [1, 2, 3]
    assert desk.forward.pending == 1
    two_rows = desk.forward.outbox.kept_bytes
    assert two_rows > 0
    desk.forward.keep_from_tick = 1
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == [2, 3]
    assert desk.forward.outbox.kept_bytes == two_rows // 2
    desk.forward.keep_from_tick = 3
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == [3]
    desk.have(1, 3)
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == []
    assert desk.forward.pending == 0
    assert desk.forward.outbox.kept_bytes == 0


def test_r22_a_gap_in_what_the_cloud_has_holds_its_row(desk: Desk) -> None:
    """Intervals of seqs: a row between two of them is not covered, nor one after the last."""
    desk.put(rows=6)
    desk.forward.keep_from_tick = 1
    desk.have(1, 2, 4, 5)
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == [3, 4, 5, 6]
    desk.have(1, 6)
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == []


@pytest.mark.parametrize("again", [False, True], ids=["the same process", "the next process"])
def test_an_outbox_that_was_emptied_sends_what_comes_next(desk: Desk, again: bool) -> None:
    """Rows are numbered on, never anew: a row that took the number of a deleted one would count as sent."""
    desk.put(rows=3)
    desk.forward.keep_from_tick = 1
    desk.have(1, 3)
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == []
    if again:
        desk.forward.close()
        desk.forward = desk.opened()
    desk.put(rows=2)
    desk.forward.once()
    assert desk.arrived() == [1, 2, 3, 4, 5]
    desk.forward.keep_from_tick = 2
    desk.have(1, 5)
    desk.forward.once()
    desk.do_chores()
    assert desk.outbox() == []


def test_r22_what_lies_on_a_log_that_was_replaced_is_sent_again(desk: Desk, tmp_path: Path) -> None:
    """Marked sent, but not covered: on another log nobody has it, so it goes out once more there, and only once."""
    desk.put(rows=3)
    desk.forward.once()
    desk.do_chores()
    desk.forward.close()
    desk.forward = desk.opened()
    desk.forward.once()
    assert desk.arrived() == [1, 2, 3]  # the same log: nothing goes again
    desk.forward.close()
    desk.bus = AwayBus(tmp_path / "another.db")
    desk.forward = desk.opened()
    desk.forward.once()
    desk.do_chores()
    assert desk.arrived() == [1, 2, 3]
    desk.forward.close()
    desk.forward = desk.opened()
    desk.put(rows=1)
    desk.forward.once()
    assert desk.arrived() == [1, 2, 3, 4]


def test_live_to_offline_to_live(desk: Desk) -> None:
    """A bus that is away changes nothing but the mode; when it is back, all goes out in order, once."""
    desk.put()
    desk.bus.away = True
    desk.forward.once()
    assert desk.forward.mode == "offline"
    desk.put()
    desk.forward.once()
    assert (desk.forward.mode, desk.forward.sent_rows) == ("offline", 0)
    desk.bus.away = False
    desk.forward.once()
    desk.forward.once()
    assert desk.forward.mode == "live"
    assert desk.arrived() == [1, 2]


def test_a_lost_answer_sends_the_same_rows_again(desk: Desk) -> None:
    """When it is not known what became of an append, the same records are appended again, under the same ids."""
    desk.put(rows=2)
    desk.bus.lost_answers = 1
    desk.forward.once()
    assert desk.forward.mode == "offline"
    desk.forward.once()
    desk.forward.once()
    assert desk.arrived() == [1, 2, 1, 2]
    ids = [stored.headers["ce_id"] for stored in desk.on_bus()]
    assert ids[:2] == ids[2:]


def test_live_to_backlog_to_live(desk: Desk) -> None:
    """Much that waited goes a bounded batch at a time, marked as replayed, anomalies first; then it is live again."""
    desk.put(WINDOWS, _BACKLOG + 1)
    desk.put(ANOMALIES)
    desk.forward.once()
    assert desk.forward.mode == "backlog"
    desk.forward.once()
    assert desk.forward.mode == "backlog"
    assert len(desk.arrived()) == _BATCH
    assert desk.arrived()[0] == _BACKLOG + 2
    while desk.forward.mode == "backlog":
        desk.forward.once()
    assert desk.arrived()[1:] == list(range(1, _BACKLOG + 2))
    assert {stored.headers.get("replayed") for stored in desk.on_bus()} == {"true"}
    desk.put()
    desk.forward.once()
    assert desk.forward.mode == "live"
    assert "replayed" not in desk.on_bus()[-1].headers


def test_offline_to_backlog(desk: Desk) -> None:
    """An anomaly that slipped out before the bus went away does not hide how many windows wait."""
    desk.put(WINDOWS, _BACKLOG + 1)
    desk.put(ANOMALIES)
    write(desk.connection, None, Chores(sent={ANOMALIES: _BACKLOG + 2}))
    desk.forward.close()
    desk.forward = desk.opened()
    desk.forward.once()
    assert desk.forward.mode == "backlog"


def test_r23_heartbeats_say_completeness_and_are_said_again_after_a_failure(desk: Desk) -> None:
    """A heartbeat goes with the rows that it speaks of; one that the bus did not take is said again with the next."""
    desk.put()
    desk.forward.complete = Completeness(EPOCH, {SHARD: (1_000, 1)}, (3, {SHARD: 9}))
    desk.bus.away = True
    desk.forward.once()
    desk.bus.away = False
    desk.forward.once()
    desk.forward.once()
    beats = [
        records.decode(Heartbeat, s.body)
        for s in desk.on_bus()
        if records.kind_of(s.headers) == records.HEARTBEAT
    ]
    assert [(b.epoch, b.shard, b.last_seq, b.complete_us, b.predecessor) for b in beats] == [
        (EPOCH, SHARD, 1, 1_000, (3, 9))
    ]


def test_a_have_record_that_cannot_be_read_is_passed_over(desk: Desk) -> None:
    """One of a newer version, say: forwarding goes on, and a later one counts."""
    desk.put()
    desk.forward.keep_from_tick = 1
    desk.bus.append([have_record(b"\xc3\x01whatever else")])
    desk.have(1, 1)
    desk.forward.once()
    desk.do_chores()
    assert desk.arrived() == [1]
    assert desk.outbox() == []


def test_the_reader_cannot_write(desk: Desk) -> None:
    """R32: the forwarder's connection is for reading; the writer's is the only one that writes."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        desk.forward.outbox._reader.execute("DELETE FROM outbox")


def _statuses(desk: Desk) -> list[AgentStatus]:
    return [
        records.decode(AgentStatus, s.body)
        for s in desk.on_bus(agent_shard(AGENT))
        if records.kind_of(s.headers) == records.AGENT_STATUS
    ]


def _telling(desk: Desk) -> list[int]:
    """Have the agent tell how often it was asked."""
    asked: list[int] = []

    def tell() -> AgentStatus:
        asked.append(len(asked))
        return AgentStatus(AGENT, "s1", len(asked), ["headwater_edge_series"], [""], [1.0])

    desk.forward.statuses.tell = tell
    return asked


def test_status_frames_go_every_30_s_beside_the_rows_and_take_no_seq(desk: Desk) -> None:
    """One at the start, then one in 30 seconds, on the agent's own shard; nothing of it is in the outbox."""
    _telling(desk)
    for _ in range(90):
        desk.once(1)
    desk.put()
    desk.once()
    assert [one.time_us for one in _statuses(desk)] == [1, 2, 3]
    assert desk.arrived() == [1]
    assert len(desk.outbox()) == 1


def test_a_change_of_mode_is_told_sooner(desk: Desk) -> None:
    """An agent that was cut off says that it is back when the bus is, not half a minute later."""
    _telling(desk)
    desk.once()
    desk.bus.away = True
    desk.put()
    desk.once(10)
    assert desk.forward.mode == "offline"
    desk.bus.away = False
    desk.once(20)
    desk.once(1)
    assert desk.forward.mode == "live"
    told = len(_statuses(desk))
    assert told == 2
    desk.once(1)
    assert len(_statuses(desk)) == told


def test_a_status_that_cannot_be_made_holds_nothing_up(desk: Desk) -> None:
    """Rows go whatever becomes of the numbers beside them."""

    def tell() -> AgentStatus:
        raise RuntimeError("dictionary changed size during iteration")

    desk.forward.statuses.tell = tell
    desk.put()
    desk.once()
    assert desk.arrived() == [1]
    assert _statuses(desk) == []


def test_a_status_that_the_bus_did_not_take_goes_when_it_is_back(desk: Desk) -> None:
    """Not half a minute after the try that failed."""
    _telling(desk)
    desk.bus.away = True
    desk.once()
    desk.bus.away = False
    desk.once(20)
    desk.once(1)
    assert desk.forward.mode == "live"
    assert len(_statuses(desk)) == 1
