"""Orders of the cloud side in the step (R14): each is one command with one known end, however often it is read, whatever crashes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import orders
from headwater_edge.acts import ActSettings
from headwater_edge.events import Answered, Event, Order, OrdersRead, Start, Subscribe
from headwater_edge.output import Output
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings, StepSettings, step_settings
from headwater_shared.clock import HELD, SYNCHRONISED
from headwater_shared.records import Command
from tests.edge.feed import DAY, Message, S, connect
from tests.edge.run import Run

MINUTE = 60 * S
HORIZON_S = 6 * 3600
DEVICES = ("d", "e")


def settings(*acts: ActSettings, rules: tuple[LimitSettings, ...] = ()) -> StepSettings:
    edge = EdgeSettings(name="a1", act=acts, limit=rules)
    return msgspec.structs.replace(step_settings(edge), future_us=2**61, clock_wait_us=0)


class Site:
    """A step with two devices that were heard, and the bus that orders are read from; `records` is what became of them."""

    def __init__(self, of: StepSettings | None = None) -> None:
        self.run = Run(of or settings())
        self.run.start()
        self.run.tick(Message(tuple((f"s/{device}/temp", DAY, 20.0) for device in DEVICES)))
        self.bus = "bus-0"
        self.log: list[Order] = []
        """All that was ever appended."""
        self.records: list[Command] = []

    def order(self, name: str, device: str = "s/d", *, ttl_s: float = 60.0, ago_s: float = 0.0) -> str:
        """The cloud side orders something; return its id."""
        now_us = self.run.clock.wall_us - round(ago_s * S)
        one = Order(f"id-{len(self.log)}", device, name, '{"valve":2}', round(ttl_s * S), now_us, "anna")
        self.log.append(one)
        return one.id

    def read(self, most: int = 100) -> Output:
        """Read on from where the state says, as a reader does; a bus that is another one from its beginning."""
        taken = self.run.state.orders.taken
        at = taken.offset if taken.bus == self.bus else 0
        found = self.log[at : at + most]
        last = found[-1].id if found else taken.last
        return self.tick(OrdersRead(self.bus, at + len(found), last, found))

    def tick(self, *events: Event) -> Output:
        output = self.run.tick(events=events)
        self.records += output.commands
        return output

    def answer(self, command: str, status: str = "done", device: str = "s/d") -> None:
        self.tick(Answered(f"hw/{device}/cmd/ack", command, status))  # type: ignore[arg-type]

    def open(self) -> list[str]:
        """Ids of what is let out and may be sent."""
        return [c.id for c in self.run.state.commands.open() if not c.unsure]

    def said(self) -> list[str]:
        return [f"{c.id} {c.status}" for c in self.records]

    def reboot(self, away_s: float, *, after: int = SYNCHRONISED) -> None:
        """Go on from the file after so long, in another boot."""
        self.run.crash()
        clock = self.run.clock
        clock.wall_us += round(away_s * S)
        clock.boot, clock.mono_us, clock.quality = clock.boot + "'", 7, after
        self.tick(Start(self.run.state.epoch + 1, "test"))


def test_r14_an_order_is_a_command_under_its_id_and_its_end_is_said() -> None:
    """Let out in the tick that read it, on the device's own topic; the record says who asked, and that no act did."""
    site = Site()
    site.order("shut")
    site.read()
    (said,) = site.records
    assert (said.id, said.status, said.device, said.topic) == ("id-0", "open", "s/d", "hw/s/d/cmd")
    assert (said.name, said.arguments, said.ttl_us) == ("shut", '{"valve":2}', MINUTE)
    assert (said.act, said.rule, said.anomaly, said.series) == ("", "anna", "", "")
    assert said.begin_us == site.run.clock.wall_us
    site.answer("id-0", device="s/e")
    assert site.open() == ["id-0"]
    site.answer("id-0", "refused")
    assert site.said() == ["id-0 open", "id-0 refused"]
    assert not site.run.state.commands.by_id
    assert site.run.state.commands.ended[-1].who == "anna"


def test_r14_the_same_order_twice_is_one_command() -> None:
    """In one reading, in the next, from another bus, while it is open and after its end: let out once."""
    site = Site()
    site.order("shut")
    site.log.append(site.log[0])
    site.read()
    site.log.append(site.log[0])
    site.read()
    site.answer("id-0")
    site.bus = "restored"
    site.read()
    assert site.said() == ["id-0 open", "id-0 done"]
    assert site.run.state.orders.repeated == 5


def test_r14_an_order_that_comes_too_late_is_reported_and_not_sent() -> None:
    """Its time to live runs from when it was issued; what is left of it is what a device hears."""
    site = Site()
    site.order("shut", ttl_s=60, ago_s=60)
    site.order("open", ttl_s=60, ago_s=50)
    site.read()
    assert site.said() == ["id-0 expired", "id-1 open"]
    assert site.records[0].reason == "it came too late"
    clock = site.run.clock
    clock.advance(9.9)
    assert not site.run.state.commands.is_due(clock.now())
    clock.advance(0.2)
    assert site.run.state.is_due(clock.now())
    site.tick()
    assert site.said()[2:] == ["id-1 expired"]
    assert site.records[-1].reason == "no answer"


def test_r14_what_an_agent_does_not_serve_is_refused_with_the_reason() -> None:
    """A device that was never heard; known is one with readings, one whose client subscribed, one that an act commands."""
    valve, hot = (
        ActSettings(name="cool", rule="hot", command="shut", device="s/valve"),
        LimitSettings("hot", "*", above=80.0),
    )
    site, with_act = Site(), Site(settings(valve, rules=(hot,)))
    for one in (site, with_act):
        one.order("shut", "s/valve")
        one.read()
    assert site.said() == ["id-0 refused"]
    assert site.records[0].reason == "this agent knows no such device"
    assert with_act.said() == ["id-0 open"]
    site.run.tick(events=(connect(1, "valve"), Subscribe(1, [("hw/s/valve/cmd", 1)])))
    site.order("shut", "s/valve")
    site.read()
    assert site.said()[1:] == ["id-1 open"]


def test_r14_an_order_that_nobody_can_carry_out_ends_as_refused() -> None:
    """What its reader found wrong with it is its reason; one from an hour ahead would outlive what is remembered of it."""
    site = Site()
    site.log.append(Order("x", "s/d", "", "{}", 0, 0, "", "it cannot be read here"))
    site.order("shut", ago_s=-3601)
    site.read()
    assert site.said() == ["x refused", "id-1 refused"]
    assert site.records[0].reason == "it cannot be read here"
    assert "ahead of the agent's clock" in site.records[1].reason


def test_r14_orders_for_one_device_are_carried_out_in_their_order() -> None:
    """The second waits for the first one's end; other devices do not wait. One whose time passes meanwhile is never let out."""
    site = Site()
    site.order("open", ttl_s=100)
    site.order("shut", ttl_s=100)
    site.order("open", ttl_s=30)
    site.order("open", "s/e")
    site.read()
    assert site.open() == ["id-0", "id-3"]
    site.run.clock.advance(31)
    site.tick()
    assert site.said()[2:] == ["id-2 expired"]
    assert site.records[-1].reason == "it waited behind another command for the device"
    site.answer("id-0")
    assert site.said()[3:] == ["id-0 done", "id-1 open"]
    site.run.clock.advance(70)
    site.tick()
    assert "id-1 expired" in site.said()  # its time ran while it waited


def test_r14_what_expires_together_with_what_it_waits_for_is_not_let_out() -> None:
    """A tick after a long silence: both are over, and no device hears of the second."""
    site = Site()
    site.order("open")
    site.order("shut")
    site.read()
    site.run.clock.advance(61)
    site.tick()
    assert sorted(site.said()[1:]) == ["id-0 expired", "id-1 expired"]


def test_r14_an_order_that_comes_while_the_clock_is_not_believed_waits_for_it() -> None:
    """Nobody knows how old it is: it is not sent; once the clock is set it is, if it is young enough."""
    for ago_s, end in ((50.0, []), (70.0, ["id-0 expired"])):
        site = Site()
        site.order("shut", ago_s=ago_s)
        clock = site.run.clock
        clock.quality = HELD
        site.read()
        assert site.open() == []
        clock.advance(1)
        clock.quality = SYNCHRONISED
        assert site.run.state.is_due(clock.now())
        site.tick()
        assert site.said()[1:] == end
        assert site.open() == ([] if end else ["id-0"])


def test_r14_time_to_live_of_orders_over_a_reboot() -> None:
    """Those that wait grow older, too, and are not sent where nobody knows how old they are."""
    for after in (SYNCHRONISED, HELD):
        site = Site()
        site.order("open", ttl_s=100)
        site.order("shut", ttl_s=100)
        site.read()
        site.reboot(50, after=after)
        assert site.open() == (["id-0"] if after == SYNCHRONISED else [])
        site.run.clock.quality = SYNCHRONISED
        site.run.clock.advance(51)
        site.tick()
        assert sorted(site.said()[1:]) == ["id-0 expired", "id-1 expired"]


def test_r14_ids_are_remembered_for_their_life_and_the_horizon() -> None:
    """From a bus that was replaced all comes again: what is remembered is not run, and what is not is over by its own clock."""
    site = Site()
    site.order("shut")
    site.read()
    site.answer("id-0")
    site.run.clock.advance(HORIZON_S + 59)
    site.tick()
    site.bus = "restored"
    site.read()
    assert "id-0" in site.run.state.orders.known
    assert site.said() == ["id-0 open", "id-0 done"]
    site.run.clock.advance(2)
    site.tick()
    site.bus = "restored again"
    site.read()
    assert site.said()[2:] == ["id-0 expired"]  # the cloud side knows by then that it was done


def test_r14_the_memory_of_ids_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is full orders are refused with the reason, so that none is done twice."""
    monkeypatch.setattr(orders, "MOST_KNOWN", 2)
    site = Site()
    for name in ("a", "b", "c"):
        site.order(name)
    site.read()
    assert site.said() == ["id-0 open", "id-2 refused"]
    assert "remembered" in site.records[-1].reason
    site.run.clock.advance(HORIZON_S + 61)
    site.tick()
    site.order("d")
    site.read()
    assert site.said()[-1] == "id-3 open"


def test_r14_orders_outlive_the_journal_that_read_them() -> None:
    """A start from a snapshot goes on at the offset, knows what waits, and what was done."""
    site = Site()
    for name in ("open", "shut", "open"):
        site.order(name)
    site.read(2)
    site.answer("id-0")
    site.run.picture()
    site.run.crash(site.run.pictures[-1])
    assert site.run.state.orders.taken == ("bus-0", 2, "id-1")
    assert site.open() == ["id-1"]
    site.bus = "restored"
    site.read()
    site.answer("id-1")
    assert site.said() == ["id-0 open", "id-0 done", "id-1 open", "id-1 done", "id-2 open"]


moves = st.one_of(
    st.tuples(st.just("order"), st.sampled_from(DEVICES), st.sampled_from((20.0, 60.0)), st.sampled_from((0.0, 30.0))),
    st.tuples(st.just("again"), st.integers(0, 9)),
    st.tuples(st.just("read"), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(("done", "refused"))),
    st.tuples(st.just("wait"), st.sampled_from((1.0, 15.0, 61.0))),
    st.sampled_from((("crash",), ("picture",), ("start",), ("reboot",), ("replaced",))),
)  # fmt: skip


@given(st.lists(moves, max_size=40))
def test_r14_any_history_of_orders_lets_each_out_once_in_order_with_one_end(todo: list[tuple]) -> None:  # type: ignore[type-arg]
    """Random orders, repeats, readings, answers, waits, crashes, reboots and buses that are replaced: each order is let out once at
    most and within its life, those of a device in their order, and each that was read has one end (or lives yet).
    """
    site = Site()
    for move, *more in todo:
        _MOVES[move](site, *more)
        _check_open(site)
    site.read()
    _check_lives(site)


def _again(site: Site, which: int) -> None:
    if site.log:
        site.log.append(site.log[which % len(site.log)])


def _answered(site: Site, which: int, status: str) -> None:
    if site.log:
        asked = site.log[which % len(site.log)]
        site.answer(asked.id, status, asked.device)


def _wait(site: Site, seconds: float) -> None:
    site.run.clock.advance(seconds)
    site.tick()


def _replaced(site: Site) -> None:
    site.bus += "'"


_MOVES: dict[str, Callable[..., object]] = {
    "order": lambda site, device, ttl_s, ago_s: site.order("shut", f"s/{device}", ttl_s=ttl_s, ago_s=ago_s),
    "again": _again,
    "read": Site.read,
    "answer": _answered,
    "wait": _wait,
    "crash": lambda site: site.run.crash(site.run.pictures[-1] if site.run.pictures else None),
    "picture": lambda site: site.run.picture(),
    "start": lambda site: site.tick(Start(site.run.state.epoch + 1, "test")),
    "reboot": lambda site: site.reboot(5),
    "replaced": _replaced,
}


def _check_open(site: Site) -> None:
    now = site.run.clock.now()
    devices = [command.device for command in site.run.state.commands.open()]
    assert len(devices) == len(set(devices))
    for command in site.run.state.commands.open():
        assert command.due_us > now.mono_us - 1
        assert command.due_us - now.mono_us <= command.begin_us + command.ttl_us - now.wall_us


def _check_lives(site: Site) -> None:
    lives: dict[str, list[str]] = {}
    for record in site.records:
        lives.setdefault(record.id, []).append(record.status)
    living = {command.id for command in site.run.state.commands.by_id.values()}
    for one in {order.id for order in site.log}:
        life = lives.get(one, [])
        ends = [status for status in life if status != "open"]
        assert len(ends) + (one in living) == 1, (one, life)
        assert life[: len(life) - len(ends)] in ([], ["open"]), (one, life)
    for device in DEVICES:
        first = list(dict.fromkeys(order.id for order in site.log if order.device == f"s/{device}"))
        let_out = [record.id for record in site.records if record.status == "open" and record.id in first]
        assert let_out == [one for one in first if one in let_out]
