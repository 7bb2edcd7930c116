"""Orders from the bus to the device (R14): a real agent on a real file and a real log; only the device is a script."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater_edge import forward, order_reader
from headwater_edge.events import Subscribe
from headwater_edge.orders import Taken
from headwater_shared.clock import SetClock
from tests.edge.on_sockets import run
from tests.edge.ordering import append, order
from tests.edge.running import (
    LOG,
    Publish,
    Running,
    as_after_a_kill,
    commands_on_bus,
    edge_settings,
    full,
    running,
)
from tests.support import until_async

CMD, ACK = "hw/s/d/cmd", "hw/s/d/cmd/ack"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus is looked at every 50 ms."""
    for module in (forward, order_reader):
        monkeypatch.setattr(module, "_LOOK_S", 0.05)


def settings(**more: Any) -> Any:
    return edge_settings(tick="1ms", **more)


async def heard(box: Running, at: int = 0) -> None:
    """The agent hears from the device, so that it knows it; and the device is there, and listens."""
    box.source.there[CMD.encode()] = [1]
    await box.publish(_reading(at))
    await box.connect(1, "d")
    await box.acknowledged(box.source.send(events=[Subscribe(1, [(CMD, 1)])]))


def _reading(at: int) -> Publish:
    value = random.Random(at).random()
    return Publish("hw/s/d/data/temp", b'{"t":%d,"v":%r}' % (1_800_000_000_000_000 + at, value))


def sent(box: Running) -> list[str]:
    return [msgspec.json.decode(payload)["id"] for _, payload, _ in box.source.commands]


def answer(command: str, status: str = "done") -> Publish:
    return Publish(ACK, msgspec.json.encode({"id": command, "status": status}))


def statuses(folder: Path) -> list[str]:
    return [f"{one.id} {one.status}" for one in commands_on_bus(folder / LOG)]


def test_r14_an_order_on_the_bus_reaches_the_device_and_its_end_the_bus(tmp_path: Path) -> None:
    """With its id, name, arguments and what is left of its life; what the device answers is on `hw-in`."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            await heard(box)
            box.clock.advance(10)
            append(tmp_path / LOG, order(1))
            await until_async(lambda: sent(box))
            (_, payload, left_s), *_ = box.source.commands
            said = msgspec.json.decode(payload)
            assert said == {
                "id": "id-1", "name": "shut", "arguments": {"valve": 2}, "ttl_s": 50.0, "expires_us": 1_800_000_060_000_000,
            }  # fmt: skip
            assert left_s == 50
            await box.publish(answer("id-1"))
            append(tmp_path / LOG, order(2))
            await until_async(lambda: sent(box) == ["id-1", "id-2"])
            await box.forwarded()
        assert statuses(tmp_path) == ["id-1 open", "id-1 done", "id-2 open"]

    run(test())


def test_r14_an_order_goes_out_again_after_a_kill_and_is_not_read_again(tmp_path: Path) -> None:
    """Killed after its commit: the same id goes out of what the file holds; answered before: it goes out no more."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            await heard(box)
            append(tmp_path / LOG, order(1))
            await until_async(lambda: sent(box))
            is_open = as_after_a_kill(tmp_path, tmp_path / "open")
            await box.publish(answer("id-1"))
            is_done = as_after_a_kill(tmp_path, tmp_path / "done")
            on_disk = box.agent.state.orders.taken
        for folder, wanted in ((is_open, ["id-1", "id-2"]), (is_done, ["id-2"])):
            async with running(folder, settings(), log=tmp_path / LOG) as box:
                assert box.agent.state.orders.taken == on_disk
                await heard(box, 1)
                if folder is is_open:
                    await until_async(lambda: sent(box))
                    await box.publish(answer("id-1"))
                    append(tmp_path / LOG, order(2))
                await until_async(lambda: sent(box) == wanted)  # noqa: B023
                assert box.agent.state.orders.repeated == 0

    run(test())


def test_r14_an_order_that_was_read_and_not_committed_is_read_again(tmp_path: Path) -> None:
    """The disk is full: it is in memory only, and in no later commit's way; the next process reads it from the bus."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            await heard(box)
            space = full(box)
            box.source.send(*(_reading(at) for at in range(1, 3000)))
            await until_async(lambda: box.agent.holding)
            append(tmp_path / LOG, order(1))
            await until_async(lambda: box.agent._gather.events)
            assert sent(box) == []
            killed = as_after_a_kill(tmp_path, tmp_path / "killed")
            space()
            await until_async(lambda: sent(box) == ["id-1"])
        async with running(killed, settings(), log=tmp_path / LOG) as box:
            assert box.agent.state.orders.taken == Taken("", 0, "")
            await heard(box, 4000)
            await until_async(lambda: sent(box) == ["id-1"])

    run(test())


def test_r14_a_restored_log_brings_what_is_new_and_nothing_twice(tmp_path: Path) -> None:
    """It is another file with other offsets: all is read again, what was taken is known, what is new is done."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            await heard(box)
            append(tmp_path / LOG, order(1), order(2))
            await until_async(lambda: sent(box))
            await box.publish(answer("id-1"))
            await until_async(lambda: sent(box) == ["id-1", "id-2"])
            await box.publish(answer("id-2"))
        async with running(tmp_path, settings(), log=tmp_path / "restored.db") as box:
            await heard(box, 1)
            append(tmp_path / "restored.db", order(1), order(3), order(2))
            await until_async(lambda: sent(box) == ["id-3"])
            assert box.agent.state.orders.repeated == 2

    run(test())


def test_r14_an_order_waits_for_the_bus_and_its_life_goes_on(tmp_path: Path) -> None:
    """What was ordered while the bus was away comes when it is back: expired by then, or with what is left."""

    async def test() -> None:
        clock = SetClock()
        async with running(tmp_path, settings(), clock) as box:
            await heard(box)
            box.bus.away = True
            await until_async(lambda: box.agent.forward.mode == "offline")
            box.bus.away = False
            append(tmp_path / LOG, order(1, ttl_s=30), order(2, ttl_s=90))
            box.bus.away = True
            clock.advance(40)
            box.bus.away = False
            await until_async(lambda: sent(box) == ["id-2"])
            await box.forwarded()
        assert statuses(tmp_path) == ["id-1 expired", "id-2 open"]

    run(test())
