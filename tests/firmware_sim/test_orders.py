"""Commands at a simulated device: each once, whatever comes how often and whoever is killed; and what they change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater_firmware_sim import plan as plans
from headwater_firmware_sim import scenario as scenarios
from headwater_firmware_sim.orders import Orders
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.roster import muster
from headwater_shared.clock import SetClock
from headwater_shared.errors import SettingsError
from headwater_shared.ledger import Executed, Names, Reading
from headwater_shared.ledger_writer import Ledger
from tests.support import until_async

_SCENARIO = """[scenario]
devices = 2
sites = ["s"]
[scenario.metrics.temp]
base = 90.0
[scenario.commands.shut]
towards = { temp = 20.0 }
within = "10s"
[scenario.commands.run]
ends = "shut"
[scenario.commands.dance]
answer = "refused"
[scenario.commands.hush]
answer = "none"
[scenario.commands.later]
after = "20ms"
"""
S = 1_000_000


class Desk:
    """The first device of a small scenario, and what it answered."""

    def __init__(self, folder: Path) -> None:
        path = folder / "scenario.toml"
        path.write_text(_SCENARIO)
        self.clock = SetClock()
        self.path = folder / "ledger"
        self.plan: Plan = plans.make(str(path), seed=1, origin_us=self.clock.wall_us, seconds=60)
        self.book = Ledger(self.path)
        self.plan = plans.enter(self.plan, self.book)
        self.answers: list[dict[str, Any]] = []
        self.committed: list[int] = []
        """How many executions the ledger had when each answer was given."""
        self.orders = self.mustered()

    def mustered(self) -> Orders:
        orders = muster(self.plan, self.book, self.clock)[0].flash.orders
        assert orders is not None
        return orders

    def told(self, name: str, command: str = "c1", **more: Any) -> None:
        payload = msgspec.json.encode({"id": command, "name": name, "arguments": {}, **more})
        self.orders.take(payload, self.answer)

    def answer(self, payload: bytes) -> None:
        self.answers.append(msgspec.json.decode(payload))
        self.committed.append(len(self.executed()))

    def executed(self) -> list[Executed]:
        return Names.read(self.path).executed

    def killed(self) -> None:
        """The fleet dies, and another takes up its ledger."""
        self.book._let_go()
        self.book = Ledger(self.path)
        self.orders = self.mustered()

    def temperature(self, after_s: float) -> float:
        """What a sensor that would say 90 says, so long after now."""
        (reading,) = self.orders.changed((Reading(0, self.clock.wall_us + round(after_s * S), 90.0),))
        return reading.value


def test_a_command_is_executed_once_and_answered_each_time(tmp_path: Path) -> None:
    """Over a kill of the fleet, too: ids are in the ledger before the answer is given."""
    desk = Desk(tmp_path)
    desk.told("shut")
    assert desk.committed == [1]
    desk.told("shut")
    desk.killed()
    desk.told("shut")
    assert [one.id for one in desk.executed()] == ["c1"]
    assert desk.answers == [{"id": "c1", "status": "done"}] * 3
    assert desk.executed()[0].name == "shut"


def test_what_is_refused_or_unknown_or_too_old_is_not_executed(tmp_path: Path) -> None:
    """Each is answered with the reason; what is no command is not answered at all."""
    desk = Desk(tmp_path)
    desk.told("dance", "a")
    desk.told("fly", "b")
    desk.told("shut", "c", expires_us=desk.clock.wall_us - 1)
    desk.orders.take(b"shut", desk.answer)
    assert desk.executed() == []
    assert [(one["id"], one["status"]) for one in desk.answers] == [
        ("a", "refused"),
        ("b", "refused"),
        ("c", "refused"),
    ]
    assert desk.answers[2]["reason"] == "its time to live is over"


def test_a_device_that_does_not_answer_has_done_it_all_the_same(tmp_path: Path) -> None:
    """Once, and says nothing, however often it is asked."""
    desk = Desk(tmp_path)
    desk.told("hush")
    desk.told("hush")
    assert (len(desk.executed()), desk.answers) == (1, [])


def test_a_slow_device_does_it_once_though_it_hears_it_twice(tmp_path: Path) -> None:
    """The second comes while the first is under way."""
    desk = Desk(tmp_path)

    async def both() -> None:
        desk.told("later")
        desk.told("later")
        assert desk.executed() == []
        await until_async(lambda: desk.answers)

    asyncio.run(both())
    assert (len(desk.executed()), desk.answers) == (1, [{"id": "c1", "status": "done"}])


def test_what_was_executed_shows_in_what_is_measured(tmp_path: Path) -> None:
    """63% of the way after `within`, back again likewise, nothing before it; the same after a kill."""
    desk = Desk(tmp_path)
    assert desk.temperature(0) == 90.0
    desk.told("shut")
    assert desk.temperature(-1) == 90.0
    assert desk.temperature(10) == pytest.approx(20 + 70 * 0.368, abs=0.02)
    desk.killed()
    assert desk.temperature(10) == pytest.approx(20 + 70 * 0.368, abs=0.02)
    desk.clock.advance(10)
    desk.told("run", "c2")
    assert desk.temperature(10) == pytest.approx(90 - 70 * 0.632 * 0.368, abs=0.02)
    assert desk.temperature(1000) == 90.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scenario.commands.shut]\ntowards = { heat = 1.0 }", "the metric 'heat'"),
        ('[scenario.commands.run]\nends = "shut"', "ends 'shut'"),
        ('[scenario.commands.shut]\nwithin = "0s"', "longer than nothing"),
    ],
)
def test_a_reaction_that_cannot_be_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    """It names the file and the command."""
    path = tmp_path / "scenario.toml"
    path.write_text(_SCENARIO.partition("[scenario.commands.shut]")[0] + text)
    with pytest.raises(SettingsError, match=message):
        scenarios.read(str(path))
