"""Commands on their way to devices: after the commit, to whoever is there, again until they are answered (R14, R18)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater_edge import commit
from headwater_edge.acts import ActSettings
from headwater_edge.broker import Broker
from headwater_edge.brokers import with_answers
from headwater_edge.events import Subscribe
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings
from headwater_shared.clock import SetClock
from tests.brokers import broker_settings
from tests.brokers import publish as say_to_broker
from tests.edge import mqtt
from tests.edge.mqtt import PUBLISH, SUBACK, V5, V311, Client, Packet
from tests.edge.on_sockets import run, served
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
from tests.support import Mosquitto, until_async

T0 = 1_800_000_000
HOT = LimitSettings(name="hot", series="*/temp", above=80.0, clear=70.0, severity="critical", text="too hot")
SHUT = ActSettings(name="cool", rule="hot", command={"name": "shut", "valve": 2}, undo="open", retry="1h")
DATA, CMD, ACK = "hw/s/d/data", "hw/s/d/cmd", "hw/s/d/cmd/ack"
QUICK = msgspec.structs.replace(SHUT, retry="20ms")


def settings(act: ActSettings = SHUT, **more: Any) -> EdgeSettings:
    return edge_settings(limit=(HOT,), act=(act,), tick="1ms", **more)


def temperature(at: int, value: float, packet_id: int = 0) -> Publish:
    return Publish(f"{DATA}/temp", b'{"t":%d,"v":%r}' % ((T0 + at) * 1_000_000, value), packet_id)


def _steadily(at: int) -> Publish:
    """A reading that no two are alike of, and none is hot."""
    return Publish("hw/s/f/data/temp", b'{"t":%d,"v":%r}' % ((T0 + 1000 + at) * 1_000_000, at / 7))


def answer(command: str, status: str = "done", topic: str = ACK) -> Publish:
    return Publish(topic, msgspec.json.encode({"id": command, "status": status}))


def sent(box: Running) -> list[dict[str, Any]]:
    return [msgspec.json.decode(payload) for _, payload, _ in box.source.commands]


def comes(box: Running, connection: int = 1) -> None:
    """A device is there now."""
    box.source.there[CMD.encode()] = [connection]


async def subscribes(box: Running, connection: int = 1) -> None:
    """A device connects and subscribes."""
    comes(box, connection)
    await box.connect(connection, f"d{connection}")
    await box.acknowledged(box.source.send(events=[Subscribe(connection, [(CMD, 1)])]))


def statuses(folder: Path) -> list[str]:
    return [f"{one.name} {one.status}" for one in commands_on_bus(folder / LOG)]


def test_r14_a_command_goes_out_after_its_commit_and_its_end_to_the_bus(tmp_path: Path) -> None:
    """Id, name, arguments and expiry as documented; an answer ends it; each step is one record on the bus."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            comes(box)
            await box.publish(temperature(1, 81.0))
            (first,) = sent(box)
            assert first["name"], first["arguments"] == ("shut", {"valve": 2})
            assert first["ttl_s"] == 300.0
            assert first["expires_us"] == box.clock.wall_us + 300_000_000
            assert box.source.commands[0][0::2] == (CMD.encode(), 300)
            await box.publish(answer(first["id"]))
            await box.publish(temperature(2, 60.0))
            _, undo = sent(box)
            assert (undo["name"], undo["undoes"]) == ("open", first["id"])
            await box.publish(answer(undo["id"]))
            await box.forwarded()
            assert box.agent.state.commands.counts.done == 2
        assert statuses(tmp_path) == ["shut open", "shut done", "open open", "open done", "shut undone"]

    run(test())


def test_r14_nothing_goes_out_before_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit is under way, what its tick lets out is known and not sent."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            comes(box)
            held: list[object] = []
            monkeypatch.setattr(box.agent._writer, "submit", held.append)
            box.source.send(temperature(1, 81.0))
            try:
                await until_async(lambda: held)
                assert len(box.agent.state.commands.open()) == 1
                assert sent(box) == []
            finally:
                monkeypatch.undo()
                box.agent._writer.submit(held[0])  # type: ignore[arg-type]
            await until_async(lambda: sent(box))

    run(test())


def test_r14_a_command_waits_for_a_device_that_is_away(tmp_path: Path) -> None:
    """Within its time to live: when the device subscribes it hears it, on another connection again, on the same not."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            await box.publish(temperature(1, 81.0))
            assert sent(box) == []
            assert box.agent.courier.waiting == 1
            await subscribes(box)
            (first,) = sent(box)
            await box.publish(temperature(2, 82.0))
            assert len(sent(box)) == 1
            await subscribes(box, 2)
            assert [one["id"] for one in sent(box)] == [first["id"]] * 2
            box.clock.advance(301)
            await until_async(lambda: not box.agent.courier._errands)
            await subscribes(box, 3)
            assert len(sent(box)) == 2

    run(test())


def test_r14_after_a_restart_a_command_goes_out_again_with_the_same_id(tmp_path: Path) -> None:
    """As after a kill, whether or not it was sent before: the id is the same, and what was answered is sent no more."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            comes(box)
            await box.publish(temperature(1, 81.0))
            (first,) = sent(box)
            open_one = as_after_a_kill(tmp_path, tmp_path / "open")
            await box.publish(answer(first["id"]))
            ended = as_after_a_kill(tmp_path, tmp_path / "ended")
        async with running(open_one, settings()) as box:
            comes(box)
            await box.publish(temperature(3, 75.0))
            await subscribes(box)
            assert {one["id"] for one in sent(box)} == {first["id"]}
        async with running(ended, settings()) as box:
            await subscribes(box)
            assert sent(box) == []

    run(test())


def test_a_device_that_does_not_answer_hears_a_command_again_with_growing_pauses(tmp_path: Path) -> None:
    """The same id each time, until its time to live is over; pauses double."""

    async def test() -> None:
        async with running(tmp_path, settings(QUICK)) as box:
            comes(box)
            loop = asyncio.get_running_loop()
            await box.publish(temperature(1, 81.0))
            begun = loop.time()
            await until_async(lambda: len(sent(box)) == 4)
            assert loop.time() - begun > 0.02 + 0.04 + 0.08 - 0.02
            assert len({one["id"] for one in sent(box)}) == 1
            box.clock.advance(301)
            await until_async(lambda: not box.agent.courier._errands)
            now = len(sent(box))
            await box.publish(temperature(2, 82.0))
            assert len(sent(box)) == now

    run(test())


def test_r14_an_answer_of_another_device_is_refused_and_counted(tmp_path: Path) -> None:
    """And one that cannot be read is a dead letter with its bytes."""

    async def test() -> None:
        async with running(tmp_path, settings()) as box:
            comes(box)
            await box.publish(temperature(1, 81.0))
            (first,) = sent(box)
            await box.publish(answer(first["id"], topic="hw/s/other/cmd/ack"))
            await box.publish(Publish(ACK, b'{"id": "x", "status": "perhaps"}'))
            await box.publish(Publish(ACK, b"ok"))
            commands = box.agent.state.commands
            assert (commands.counts.answers_of_others, commands.counts.done) == (1, 0)
            assert len(commands.open()) == 1
            assert box.agent.letters.letters == 2

    run(test())


def test_r18_while_the_disk_is_full_commands_go_out_provisionally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the disk acts at once, with the id that it has after recovery: of the tick that is stuck, and of what comes
    after it; what was answered meanwhile is known once the disk has room.
    """
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test() -> None:
        async with running(tmp_path, settings(QUICK)) as box:
            comes(box)
            box.source.there[b"hw/s/e/cmd"] = [2]
            space = full(box)
            stuck = box.source.send(temperature(1, 81.0), *(_steadily(at) for at in range(300)))
            await until_async(lambda: box.agent.holding)
            await until_async(lambda: sent(box), what="of the tick that is stuck")
            behind = box.source.send(Publish("hw/s/e/data/temp", b'{"t":%d,"v":90.0}' % (T0 * 1_000_000)))
            await until_async(lambda: any(one[0] == b"hw/s/e/cmd" for one in box.source.commands))
            early = {topic: msgspec.json.decode(payload)["id"] for topic, payload, _ in box.source.commands}
            done = box.source.send(answer(early[b"hw/s/e/cmd"], topic="hw/s/e/cmd/ack"))
            assert box.agent.state.commands.counts.let_out == 1  # of the tick that is stuck
            space()
            for burst in (stuck, behind, done):
                await box.acknowledged(burst)
            counts = box.agent.state.commands.counts
            await until_async(lambda: counts.let_out == 2 and counts.done == 1)
            await box.publish(answer(early[CMD.encode()]))
            assert counts.done == 2
            assert {msgspec.json.decode(payload)["id"] for _, payload, _ in box.source.commands} == set(
                early.values()
            )

    run(test())


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_at_the_listener_hears_its_command_and_answers(
    tmp_path: Path, version: int, qos: int
) -> None:
    """At the QoS that it subscribed with; its PUBACK is no answer; MQTT 5 is told how long the message is worth something."""

    async def test() -> None:
        async with served(tmp_path, settings=settings()) as box:
            device = await box.client("d", version)
            device.send(mqtt.subscribe(1, [(CMD, qos)], version))
            assert (await device.take(1))[0].kind == SUBACK
            body = b'{"t":%d,"v":81.0}' % (T0 * 1_000_000)
            device.send(mqtt.publish(f"{DATA}/temp", body, 7, version))
            packets = await device.take(2)
            (command,) = [one for one in packets if one.kind == PUBLISH]
            payload, packet_id = _message(command, version, qos)
            if version == V5:
                assert b"\x05\x02" + (300).to_bytes(4, "big") in command.body
            if qos:
                device.send(mqtt.packet(0x40, packet_id.to_bytes(2, "big")))
            commands = box.agent.state.commands
            reply = msgspec.json.encode({"id": payload["id"], "status": "refused", "reason": "by hand"})
            assert len(commands.open()) == 1
            device.send(mqtt.publish(ACK, reply, 8, version))
            await until_async(lambda: commands.counts.refused == 1)
            assert commands.ended[-1].reason == "by hand"

    run(test())


def _message(packet: Packet, version: int, qos: int) -> tuple[dict[str, Any], int]:
    """Return what a PUBLISH to the commands' topic says, and its packet id."""
    assert (packet.flags >> 1) & 3 == qos
    at = 2 + len(CMD)
    packet_id = int.from_bytes(packet.body[at : at + 2], "big") if qos else 0
    at += 2 * bool(qos)
    at += 1 + packet.body[at] if version == V5 else 0
    return msgspec.json.decode(packet.body[at:]), packet_id


def test_no_more_commands_are_on_the_way_than_a_device_takes(tmp_path: Path) -> None:
    """MQTT 5's Receive Maximum, 1 here: the second command waits for the PUBACK of the first."""

    async def test() -> None:
        both = settings(QUICK), msgspec.structs.replace(QUICK, name="tell", command="blink", undo=None)
        edge = msgspec.structs.replace(both[0], act=(QUICK, both[1]))
        async with served(tmp_path, settings=edge) as box:
            device = await box.client("d", V5, properties=b"\x21\x00\x01")
            device.send(mqtt.subscribe(1, [(CMD, 1)], V5))
            await device.take(1)
            device.send(mqtt.publish(f"{DATA}/temp", b'{"t":%d,"v":81.0}' % (T0 * 1_000_000), 7, V5))
            packets = await device.take(2)
            (command,) = [one for one in packets if one.kind == PUBLISH]
            first, packet_id = _message(command, V5, 1)
            assert box.agent.courier.sent == 1
            device.send(mqtt.packet(0x40, packet_id.to_bytes(2, "big")))
            second, _ = _message((await device.take(1))[0], V5, 1)
            assert {first["name"], second["name"]} == {"shut", "blink"}

    run(test())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_device_at_a_broker_hears_its_command_and_answers(
    tmp_path: Path, mosquitto: Mosquitto, version: str
) -> None:
    """The agent publishes on the site's broker, and subscribes to the answers there beside its filters."""

    async def test() -> None:
        edge = settings()
        async with running(tmp_path, edge) as box, AsyncExitStack() as left:
            asked = with_answers(
                broker_settings(mosquitto.port, version=version, filters=("hw/+/+/data/#",)),
                ["hw/+/+/cmd/ack"],
            )
            assert asked.filters == ("hw/+/+/data/#", "hw/+/+/cmd/ack")
            broker = box.agent.attach(
                lambda deliver: Broker(asked, "a1", "", SetClock(), count(100), deliver)
            )
            broker.start()
            left.push_async_callback(broker.close)
            device = await Client.open(mosquitto.port)
            device.send(mqtt.connect("d"), mqtt.subscribe(1, [(CMD, 1)]))
            await device.take(2)
            await until_async(lambda: broker.counts.connected)
            await box.publish(temperature(1, 81.0))
            (command,) = await device.take(1)
            payload, packet_id = _message(command, V311, 1)
            device.send(mqtt.packet(0x40, packet_id.to_bytes(2, "big")))
            say_to_broker(mosquitto.port, (ACK, msgspec.json.encode({"id": payload["id"], "status": "done"})))
            await until_async(lambda: box.agent.state.commands.counts.done == 1)

    run(test())


def test_answers_are_not_asked_for_twice() -> None:
    """A filter that lets them through already is enough."""
    every = broker_settings(1883, filters=("hw/#",))
    assert with_answers(every, ["hw/+/+/cmd/ack", "valve/+/set/ack"]).filters == ("hw/#", "valve/+/set/ack")
