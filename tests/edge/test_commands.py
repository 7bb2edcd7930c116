"""The life of commands in the step (R14): let out one after the other, each with a known end, whatever crashes and reboots."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import commands
from headwater_edge.acts import ActSettings
from headwater_edge.events import Answered, Event, Start
from headwater_edge.output import Output
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings, StepSettings, step_settings
from headwater_shared.clock import HELD, SYNCHRONISED
from headwater_shared.errors import SettingsError
from headwater_shared.identity import stable_id
from headwater_shared.records import Command
from tests.edge.feed import DAY, Message, S
from tests.edge.run import Run

HOT = LimitSettings(name="hot", series="*/temp", above=80.0, clear=70.0, text="too hot")
SHUT = ActSettings(
    name="cool",
    rule="hot",
    command={"name": "shut", "why": "{text}", "value": "{value}"},
    undo="open",
    ttl="1m",
)
ACK = "hw/s/d/cmd/ack"


def settings(*acts: ActSettings) -> StepSettings:
    edge = EdgeSettings(name="a1", limit=(HOT,), act=acts or (SHUT,))
    return msgspec.structs.replace(step_settings(edge), future_us=2**61, clock_wait_us=0)


class Plant:
    """A step that is fed temperatures of devices and answers; `said` is what became of each command, by id."""

    def __init__(self, *acts: ActSettings) -> None:
        self.run = Run(settings(*acts))
        self.run.start()
        self.at = 0
        self.records: list[Command] = []

    def temperature(self, value: float, device: str = "d", events: tuple[Event, ...] = ()) -> Output:
        self.at += 1
        reading = (f"s/{device}/temp", DAY + self.at * S, value)
        return self.taken(self.run.tick(Message((reading,)), events=events))

    def tick(self, *events: Event) -> Output:
        return self.taken(self.run.tick(events=events))

    def taken(self, output: Output) -> Output:
        self.records += output.commands
        return output

    def answer(self, command: str, status: str = "done", topic: str = ACK) -> list[str]:
        event = Answered(topic, command, status, "")  # type: ignore[arg-type]
        return [f"{c.name} {c.status}" for c in self.tick(event).commands]

    def open(self) -> list[str]:
        """Names of what is let out, in order."""
        return [msgspec.json.decode(c.command)["name"] for c in self.run.state.commands.open()]

    def id_of(self, name: str) -> str:
        return next(c.id for c in reversed(self.records) if c.name == name)

    def said(self) -> list[str]:
        return [f"{c.name} {c.status}" for c in self.records]

    def reboot(self, away_s: float, *, before: int = SYNCHRONISED, after: int = SYNCHRONISED) -> None:
        """Go on from the file after so long, in another boot; with clocks of these qualities before and after."""
        clock = self.run.clock
        clock.quality = before
        self.tick()
        self.run.crash()
        clock.wall_us += round(away_s * S)
        clock.boot, clock.mono_us, clock.quality = clock.boot + "'", 7, after
        self.taken(self.run.tick(events=(Start(self.run.state.epoch + 1, "test"),)))


def test_r14_a_command_is_let_out_with_the_anomaly_and_undone_after_it() -> None:
    """Its id hashes act, rule, series and event time; the undo has an id and a life of its own, and the first is then undone."""
    plant = Plant()
    begin = plant.temperature(81.0).anomalies[0]
    (first,) = plant.records
    assert first.id == stable_id("command", "cool", begin.id)
    assert (first.status, first.device, first.topic, first.anomaly) == ("open", "s/d", "hw/s/d/cmd", begin.id)
    assert msgspec.json.decode(first.arguments) == {"why": "too hot", "value": 81.0}
    assert plant.answer(first.id) == ["shut done"]
    assert plant.open() == []
    plant.temperature(60.0)
    assert plant.open() == ["open"]
    assert plant.records[-1].undoes == first.id
    assert plant.answer(plant.id_of("open")) == ["open done", "shut undone"]
    assert not plant.run.state.commands.by_id
    plant.run.flush()
    plant.run.check()


def test_r14_what_undoes_a_command_does_not_overtake_it() -> None:
    """The anomaly is over before the device has answered: the undo waits until the first has ended, however that is."""
    plant = Plant()
    plant.temperature(81.0)
    plant.temperature(60.0)
    assert plant.open() == ["shut"]
    assert plant.answer(plant.id_of("shut")) == ["shut done", "open open"]
    late = Plant()
    late.temperature(81.0)
    late.temperature(60.0)
    late.run.clock.advance(61)
    late.tick()
    assert late.said() == ["shut open", "shut expired", "open open"]  # nobody knows whether it was done


def test_r14_what_was_refused_is_not_undone() -> None:
    """Whether the device refuses before the anomaly is over or after: there is nothing to undo."""
    for early in (True, False):
        plant = Plant()
        plant.temperature(81.0)
        if not early:
            plant.temperature(60.0)
        plant.answer(plant.id_of("shut"), "refused")
        if early:
            plant.temperature(60.0)
        assert [one for one in plant.said() if one.startswith("shut")] == ["shut open", "shut refused"]
        assert "open open" not in plant.said()
        assert not plant.run.state.commands.by_id


def test_r14_a_command_expires_by_the_time_of_the_tick() -> None:
    """Time alone makes a tick that says so, and only after its time to live."""
    plant = Plant(msgspec.structs.replace(SHUT, undo=None))
    plant.temperature(81.0)
    state, clock = plant.run.state, plant.run.clock
    clock.advance(59.9)
    assert not state.commands.is_due(clock.now())
    clock.advance(0.2)
    assert state.is_due(clock.now())
    plant.tick()
    assert plant.said() == ["shut open", "shut expired"]
    assert plant.records[-1].reason == "no answer"
    assert plant.answer(plant.id_of("shut")) == []  # too late


def test_r14_only_the_first_answer_counts_and_only_of_the_device_addressed() -> None:
    """A duplicate, one to nothing, one that is late and one of another device change nothing, and are counted."""
    plant = Plant()
    plant.temperature(81.0)
    command = plant.id_of("shut")
    assert plant.answer(command, topic="hw/s/other/cmd/ack") == []
    assert plant.answer(command, "refused", topic="hw/s/other/cmd/ack") == []
    assert plant.answer("0" * 32) == []
    assert plant.answer(command) == ["shut done"]
    assert plant.answer(command, "refused") == []
    counts = plant.run.state.commands.counts
    assert (counts.answers_of_others, counts.answers_ignored, counts.done, counts.refused) == (2, 2, 1, 0)


def test_r14_an_anomaly_that_is_back_withdraws_what_would_undo_its_command() -> None:
    """Shut, over, hot again: the undo that nobody answered ends, and the new command goes out; the last word is the newest's."""
    plant = Plant()
    plant.temperature(81.0)
    plant.answer(plant.id_of("shut"))
    plant.temperature(60.0)
    plant.temperature(82.0)
    assert plant.open() == ["shut"]
    assert plant.said()[2:] == ["open open", "open refused", "shut open"]
    assert plant.records[-2].reason == "withdrawn: the anomaly is back"
    plant.answer(plant.id_of("shut"))
    plant.temperature(60.0)
    assert plant.answer(plant.id_of("open")) == ["open done", "shut undone"]
    assert not plant.run.state.commands.by_id


def test_commands_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over the bound, of a device or in all, ends as refused with the reason, and is counted."""
    monkeypatch.setattr(commands, "PER_DEVICE", 2)
    monkeypatch.setattr(commands, "MOST", 3)
    to_one = msgspec.structs.replace(SHUT, device="s/valve", undo=None)
    plant = Plant(to_one)
    for device in "abc":
        plant.temperature(81.0, device)
    assert plant.said() == ["shut open", "shut open", "shut refused"]
    assert plant.records[-1].reason == "2 commands are open for the device"
    every = Plant()
    for device in "abcd":
        every.temperature(81.0, device)
    assert every.said()[3:] == ["shut refused"]
    assert every.records[-1].reason == "3 commands are open"
    assert every.run.state.commands.counts.refused == 1


def test_time_to_live_over_a_reboot_is_that_of_believed_clocks() -> None:
    """Monotonic time has begun anew: the wall clock says how long we were away, where it was believed both times."""
    plant = Plant()
    plant.temperature(81.0)
    plant.reboot(50)
    assert plant.open() == ["shut"]
    plant.run.clock.advance(11)
    plant.tick()
    assert "shut expired" in plant.said()


def test_a_command_whose_age_nobody_knows_waits_for_the_clock() -> None:
    """Not sent, for it might be too old; once the clock is believed it is known whether it is."""
    for away_s, end in ((50, []), (70, ["shut expired"])):
        plant = Plant(msgspec.structs.replace(SHUT, undo=None))
        plant.temperature(81.0)
        plant.reboot(away_s, after=HELD)
        (command,) = plant.run.state.commands.open()
        assert command.unsure
        clock = plant.run.clock
        clock.advance(1)
        assert not plant.run.state.commands.is_due(clock.now())
        clock.quality = SYNCHRONISED
        assert plant.run.state.commands.is_due(clock.now())
        plant.tick()
        assert plant.said()[1:] == end
        assert not any(command.unsure for command in plant.run.state.commands.open())


def test_a_command_of_a_box_without_a_clock_expires_over_a_reboot() -> None:
    """It is never sent again, and its end is known at the latest after its time to live."""
    plant = Plant(msgspec.structs.replace(SHUT, undo=None))
    plant.run.clock.quality = HELD
    plant.temperature(81.0)
    plant.reboot(10, before=HELD, after=HELD)
    plant.run.clock.advance(61)
    plant.tick()
    assert plant.said()[1:] == ["shut expired"]
    assert plant.records[-1].reason == "nobody knows how long the agent was off"


def test_r14_commands_outlive_the_journal_that_let_them_out() -> None:
    """A start from a snapshot knows what is open, what is done and may be undone, and the last ends."""
    plant = Plant()
    plant.temperature(81.0)
    plant.temperature(81.0, "e")
    plant.answer(plant.id_of("shut"), topic="hw/s/e/cmd/ack")
    plant.run.picture()
    plant.run.crash(plant.run.pictures[-1])
    assert plant.open() == ["shut"]
    assert plant.answer(plant.records[0].id) == ["shut done"]
    plant.temperature(60.0, "e")
    assert plant.open() == ["open"]
    assert [one.status for one in plant.run.state.commands.ended] == ["done", "done"]


moves = st.one_of(
    st.tuples(st.just("temperature"), st.sampled_from((60.0, 75.0, 90.0)), st.sampled_from("ab")),
    st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(("done", "refused"))),
    st.tuples(st.just("wait"), st.sampled_from((1.0, 30.0, 61.0))),
    st.sampled_from((("crash",), ("picture",), ("start",), ("reboot",))),
)


@given(st.lists(moves, max_size=40))
def test_r14_any_history_of_a_command_has_one_end_and_no_undo_overtakes(todo: list[tuple]) -> None:  # type: ignore[type-arg]
    """Random anomalies, answers, waits, crashes and reboots: each command that is let out ends once (or is open yet), by act and
    series at most one is open, and what undoes a command is let out only after that one's end; a replay agrees to the last bit.
    """
    plant = Plant()
    for move, *more in todo:
        if move == "temperature":
            plant.temperature(*more)
        elif move == "answer":
            which, status = more
            ids = [record.id for record in plant.records]
            if ids:
                asked = plant.records[which % len(ids)]
                plant.answer(asked.id, status, topic=asked.topic + "/ack")
        elif move == "wait":
            plant.run.clock.advance(more[0])
            plant.tick()
        elif move == "crash":
            plant.run.crash(plant.run.pictures[-1] if plant.run.pictures else None)
        elif move == "picture":
            plant.run.picture()
        elif move == "start":
            plant.taken(plant.run.tick(events=(Start(plant.run.state.epoch + 1, "test"),)))
        else:
            plant.reboot(5)
        chains = [(c.act, c.series) for c in plant.run.state.commands.open()]
        assert len(chains) == len(set(chains))
    _check_lives(plant)


def _check_lives(plant: Plant) -> None:
    still = {command.id for command in plant.run.state.commands.open()}
    lives: dict[str, list[str]] = {}
    for record in plant.records:
        if record.undoes and record.status == "open":
            assert lives[record.undoes][1:] in (["done"], ["expired"]), lives[record.undoes]
        lives.setdefault(record.id, []).append(record.status)
    for command, life in lives.items():
        ends = [status for status in life if status != "open"]
        if life[0] == "open" and command not in still:
            assert ends, life
        assert ends in ([], ["done"], ["refused"], ["expired"], ["done", "undone"], ["expired", "undone"]), (
            life
        )
        if command in still:
            assert life == ["open"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (msgspec.structs.replace(SHUT, rule="cold"), "no rule 'cold'"),
        (msgspec.structs.replace(SHUT, command={"valve": 1}), "has no name"),
        (msgspec.structs.replace(SHUT, command="shut {pump}"), "nothing is known of {pump}"),
        (msgspec.structs.replace(SHUT, device="valve-1"), "names no device"),
        (msgspec.structs.replace(SHUT, topic="hw/+/cmd"), "is no topic"),
        (msgspec.structs.replace(SHUT, ttl="0s"), "longer than nothing"),
        (
            msgspec.structs.replace(SHUT, command={"name": "shut", "x": float("nan")}),
            "cannot be written as JSON",
        ),
    ],
)
def test_an_act_that_cannot_be_is_a_clear_error(act: ActSettings, message: str) -> None:
    """Each names the act, and says what to write."""
    with pytest.raises(SettingsError, match=message) as error:
        settings(act)
    assert "cool" in error.value.message
    assert error.value.hint


def test_two_acts_of_one_name_are_an_error() -> None:
    """Commands are told apart by it."""
    with pytest.raises(SettingsError, match="two acts"):
        settings(SHUT, SHUT)
