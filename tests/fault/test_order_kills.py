"""kill -9 at every point of an order's life, from the bus to the device's answer: none is lost, none is done twice (R14)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from headwater_cloud.history import History
from headwater_shared import ledger as ledgers
from headwater_shared.orders import record_of
from headwater_shared.records import Order
from headwater_shared.sqlite_log import SqliteLog
from tests.fault import steps
from tests.fault.commanded import Fleet, fleet
from tests.support import until
from tests.system.box import EDGE, SMALL_SNAPSHOTS, Box, box
from tests.system.replayed import assert_replays, keep_all_rows

_LONG_S = 1_200
"""The fleet is ended once all is done."""


class Orders:
    """What the cloud side orders: each device in turn, and now and then something that it ordered before."""

    def __init__(self, here: Box, devices: Sequence[str], seed: int) -> None:
        self._here = here
        self._devices = devices
        self._chance = random.Random(seed)
        self.sent: list[Order] = []

    def send(self, many: int) -> None:
        """Order something of so many devices, over a connection of its own."""
        with closing(SqliteLog(self._here.data / "log.db")) as log:
            now_us = log.read("hw-in", dict.fromkeys(range(64), 0), 1)[0].time_us
            for _ in range(many):
                if self.sent and self._chance.random() < 0.3:
                    order = self._chance.choice(self.sent)
                else:
                    number = len(self.sent)
                    name, device = ("cool", "rest")[number % 2], self._devices[number % len(self._devices)]
                    order = Order("box", f"order-{number}", device, name, "{}", 3_600_000_000, now_us, "test")
                    self.sent.append(order)
                log.append([record_of(order, "tests")])

    def all_done(self) -> bool:
        """Whether the cloud side knows of each that it is done."""
        with closing(History(self._here.data / "cloud.db")) as history:
            stands = [history.command(order.id) for order in self.sent]
        return all(one is not None and one.status == "done" for one in stands)


def _run(folder: Path, todo: Sequence[str], many: int) -> int:
    """Run a box whose devices are ordered about; the agent dies at each step in turn. Return how many orders were done."""
    with box(folder) as here:
        here.start(EDGE)
        here.ready(EDGE)
        here.end(EDGE)
        keep_all_rows(here.data / "edge.db")
        here.up(module=SMALL_SNAPSHOTS)
        with fleet(here, _LONG_S) as devices:
            orders = Orders(here, _heard(here, devices), len(todo))
            for step in todo:
                here.kill(EDGE)
                orders.send(many)
                here.start(EDGE, crash=step, module=SMALL_SNAPSHOTS)
                if step:
                    here.killed(EDGE, 60)
                    here.start(EDGE, module=SMALL_SNAPSHOTS)
                here.ready(EDGE)
                orders.send(many)
            until(orders.all_done, 60, "all is done")
        here.closed()
        here.end(EDGE)
        here.end("cloud")
        executed = Counter(one.id for one in ledgers.Names.read(devices.ledger).executed)
        assert executed == {order.id: 1 for order in orders.sent}
        assert not here.troubles()
        assert_replays(here.data / "edge.db", here.settings)
        return len(orders.sent)


def _heard(here: Box, devices: Fleet) -> list[str]:
    """Wait until the agent knows every device; return them."""
    devices.goes_on(300)
    with closing(History(here.data / "cloud.db")) as history:
        heard = until(
            lambda: len(found := {name.rpartition("/")[0] for name in history.series()}) >= 12 and found, 60
        )
    return sorted(heard or ())


@pytest.mark.fault
@pytest.mark.parametrize("turn", [1, 2])
def test_r14_a_kill_at_every_step_of_an_orders_life(tmp_path: Path, turn: int) -> None:
    """Each step of an order, of a command, of a tick and of a start, the first time that it is reached; then the second, and at random."""
    starts = [step for step in steps.RESTART if step != "forward.started"]
    every = [*steps.ORDERS, *steps.COMMANDS, *steps.TICK, *(starts if turn == 1 else ())]
    todo = [f"{step}:{1 if step in steps.ORDERS else turn}" for step in every]
    random.Random(turn).shuffle(todo)
    assert _run(tmp_path, [*todo, "", ""], 6) > 100
