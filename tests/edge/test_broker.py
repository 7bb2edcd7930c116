"""The broker client with a real Mosquitto: sessions, backpressure, acknowledgements, reconnects, what is no reading."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headwater_edge.broker import Broker
from headwater_edge.broker_burst import BrokerBurst
from headwater_edge.broker_retry import Retry
from headwater_edge.events import Connect, Disconnect, Event, Subscribe, Unsubscribe
from headwater_edge.source import DUP, Burst
from headwater_shared.clock import SetClock
from tests.brokers import MosquittoServer, broker_settings, mosquitto_server, persistent, publish
from tests.support import Mosquitto, until_async
from tests.system.wire import Wire

TOPIC = "hw/s/d/data/m"
VERSIONS = ("5", "3.1.1")


class Agent:
    """Stands for the agent: keeps the bursts, and acknowledges when a test says so."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        self.bursts: list[BrokerBurst] = []
        self.filters: dict[str, int] | None = None
        self.broker: Broker

    def deliver(self, burst: Burst) -> None:
        assert isinstance(burst, BrokerBurst)
        self.bursts.append(burst)
        for event in (event for _, event in burst.events):
            if isinstance(event, Connect):
                self.filters = {} if event.clean else self.filters or {}
            elif isinstance(event, Subscribe):
                self.filters = {**(self.filters or {}), **dict(event.filters)}

    @property
    def payloads(self) -> list[bytes]:
        return [payload for burst in self.bursts for payload in burst.payloads]

    @property
    def events(self) -> list[Event]:
        return [event for burst in self.bursts for _, event in burst.events]

    def of_kind(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def acknowledge(self, *bursts: BrokerBurst) -> None:
        """Acknowledge the bursts given, or all."""
        self.broker.acknowledge(bursts or self.bursts, {})
        if not bursts:
            self.bursts = []

    async def has(self, messages: int) -> list[bytes]:
        """Wait until so many messages are here that were not acknowledged; return their payloads."""
        await until_async(lambda: len(self.payloads) >= messages, what=f"{messages} messages")
        return self.payloads

    async def subscribed(self) -> None:
        """Wait until the broker has granted what was asked for."""
        await until_async(lambda: self.of_kind(Subscribe), what="subscribed")


@asynccontextmanager
async def client(
    port: int,
    agent: Agent | None = None,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    **keys: Any,
) -> AsyncIterator[Agent]:
    """A broker client that is connected, or tries to be."""
    agent = agent or Agent()
    settings = broker_settings(port, **keys)
    agent.broker = Broker(
        settings, "e1", agent.password, SetClock(), count(1), agent.deliver,
        remembered=lambda: agent.filters, monotonic=monotonic, retry=Retry(0.05, 0.2),
    )  # fmt: skip
    agent.broker.start()
    try:
        yield agent
    finally:
        await agent.broker.close()


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


def numbered(*numbers: int) -> list[tuple[str, bytes]]:
    return [(TOPIC, b"%d" % number) for number in numbers]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_devices_publish_to_the_broker_arrives_in_order(mosquitto: Mosquitto, version: str) -> None:
    """Topic, payload, packet id and QoS, below a Connect that says that the session is new."""

    async def test() -> None:
        async with client(mosquitto.port, version=version) as agent:
            await agent.subscribed()
            publish(
                mosquitto.port, *numbered(*range(20))
            )  # so many Mosquitto lets a client of 3.1.1 have in flight
            assert await agent.has(20) == [b"%d" % n for n in range(20)]
            (first,) = agent.of_kind(Connect)
            assert isinstance(first, Connect)
            assert (first.client, first.clean) == ("\0broker/plant", True)
            assert {topic for burst in agent.bursts for topic in burst.topics} == {TOPIC.encode()}
            assert all(burst.runs == [(1, len(burst.topics))] for burst in agent.bursts if burst.topics)
            ids = [packet_id for burst in agent.bursts for packet_id in burst.packet_ids]
            assert len(set(ids)) == 20
            agent.acknowledge()

    run(test())


def test_r05_receive_maximum_is_the_backpressure(mosquitto: Mosquitto) -> None:
    """While nothing is acknowledged no more comes than was asked for; then the rest does, each once."""

    async def test() -> None:
        async with client(mosquitto.port, receive_maximum=10) as agent:
            await agent.subscribed()
            publish(mosquitto.port, *numbered(*range(50)))
            await agent.has(10)
            publish(mosquitto.port, *numbered(50))  # answered later than all that was on the way to us
            assert len(agent.payloads) == 10
            seen: list[bytes] = []
            while len(seen) < 51:
                await until_async(lambda: agent.payloads, what="more")
                seen += agent.payloads
                agent.acknowledge()
            assert seen == [b"%d" % n for n in range(51)]
            assert all(not flags & DUP for burst in agent.bursts for flags in burst.flags)

    run(test())


@pytest.mark.parametrize("version", VERSIONS)
def test_r03_what_was_not_acknowledged_comes_again_with_dup(mosquitto: Mosquitto, version: str) -> None:
    """Under the same packet ids, in a session that the broker kept; what was acknowledged does not."""

    async def test() -> None:
        async with client(mosquitto.port, version=version) as first:
            await first.subscribed()
            publish(mosquitto.port, *numbered(1, 2, 3))
            await first.has(3)
            done, left = first.bursts[-1].packet_ids[:1], first.bursts[-1].packet_ids[1:]
            first.acknowledge(BrokerBurst(0, packet_ids=done, connection=1))
        async with client(mosquitto.port, Agent(), version=version) as second:
            assert await second.has(2) == [b"2", b"3"]
            (connect,) = second.of_kind(Connect)
            assert isinstance(connect, Connect)
            assert not connect.clean
            assert [i for burst in second.bursts for i in burst.packet_ids] == left
            assert all(flags & DUP for burst in second.bursts for flags in burst.flags)

    run(test())


def test_r05_acknowledgements_die_with_their_connection(tmp_path: Path) -> None:
    """What an earlier connection brought is not acknowledged over the next one: it came again under an id of its own."""

    async def test() -> None:
        with mosquitto_server(tmp_path) as mosquitto:
            async with client(mosquitto.port) as agent:
                await agent.subscribed()
                publish(mosquitto.port, *numbered(1))
                await agent.has(1)
                old = list(agent.bursts)
                with Wire(mosquitto.port, "headwater-e1-plant"):  # takes the session over, and goes
                    await until_async(lambda: agent.of_kind(Disconnect), what="taken over")
                await until_async(lambda: agent.broker.counts.connects == 2, what="connected again")
                await agent.subscribed()
                agent.acknowledge(*old)
                assert agent.broker.counts.acknowledgements == 0

    run(test())


@pytest.mark.parametrize("version", VERSIONS)
def test_r09_retained_messages_are_skipped_and_acknowledged(mosquitto: Mosquitto, version: str) -> None:
    """A broker of 3.1.1 sends them at every subscribe, one of 5 is asked not to; more than it lets be in flight, twice over."""
    publish(mosquitto.port, *((f"hw/s/d{n}/data/m", b"old") for n in range(50)), retain=True)
    retained = 50 if version == "3.1.1" else 0

    async def live(agent: Agent, *numbers: int) -> None:
        """See what is published now, and nothing else, while everything is acknowledged."""
        publish(mosquitto.port, *numbered(*numbers))
        seen: list[bytes] = []
        while len(seen) < len(numbers):
            await until_async(lambda: agent.bursts, what="messages")
            seen += agent.payloads
            agent.acknowledge()
        assert seen == [b"%d" % n for n in numbers]

    async def test() -> None:
        async with client(mosquitto.port, version=version, receive_maximum=20) as agent:
            await agent.subscribed()
            await live(agent, *range(20))
            with Wire(mosquitto.port, "headwater-e1-plant"):  # and now each topic is known already
                await until_async(lambda: agent.of_kind(Disconnect), what="taken over")
            await until_async(lambda: agent.broker.counts.connects == 2, what="connected again")
            await agent.subscribed()
            await live(agent, *range(20, 40))
            publish(mosquitto.port, (TOPIC, b"new"), retain=True)  # live, and so a reading
            await until_async(lambda: agent.payloads == [b"new"], what="a live one")
            assert agent.broker.counts.retained == 2 * retained

    run(test())


def test_the_socket_is_not_read_while_too_much_waits(tmp_path: Path) -> None:
    """The second line: a broker that sends far more than it was asked for is left unread at twice that."""

    async def test() -> None:
        with mosquitto_server(tmp_path, "max_queued_messages 0") as mosquitto:
            await overrun(mosquitto.port)

    async def overrun(port: int) -> None:
        async with client(port, receive_maximum=10) as agent:
            await agent.subscribed()
            publish(port, *numbered(*range(2000)))
            await agent.has(10)
            most = 0
            seen: list[bytes] = []
            while len(seen) < 2000:  # each acknowledgement may release a whole Receive Maximum
                await until_async(lambda: agent.payloads, what="more")
                most = max(most, len(agent.payloads))
                burst = agent.bursts.pop(0)
                seen += burst.payloads
                agent.acknowledge(burst)
            assert seen == [b"%d" % n for n in range(2000)]
            assert agent.broker.counts.held_back > 0
            print(most)

    run(test())


def test_the_broker_may_be_away_at_boot_and_at_any_time(tmp_path: Path) -> None:
    """The client connects when the broker comes, subscribes at every connect, and says since when it is away."""

    async def test() -> None:
        mosquitto = MosquittoServer(tmp_path)
        async with client(mosquitto.port) as agent:
            counts = agent.broker.counts
            await until_async(lambda: counts.lost["unreachable"] >= 2, what="two attempts")
            assert "Connect call failed" in counts.troubles()[0]
            for times in (1, 2):
                mosquitto.start()
                await until_async(lambda n=times: len(agent.of_kind(Subscribe)) == n, what="subscribed")  # type: ignore[misc]
                assert counts.troubles() == []
                publish(mosquitto.port, *numbered(times))
                await agent.has(times)
                mosquitto.kill()
                await until_async(lambda: not counts.connected, what="away")
            assert counts.sessions_lost == 1  # it has no persistence
            assert counts.since_us > 0

    run(test())


def test_a_frozen_broker_is_noticed_by_its_silence(tmp_path: Path) -> None:
    """The socket stays open, nothing comes, not even the canary: connect again, and go on once it thaws."""

    async def test() -> None:
        with mosquitto_server(tmp_path) as mosquitto:
            async with client(mosquitto.port, canary="50ms", canary_timeout="300ms") as agent:
                counts = agent.broker.counts
                await until_async(lambda: counts.canaries >= 3, what="canaries")
                assert 0 < counts.canary_s < 0.3
                mosquitto.signal(signal.SIGSTOP)
                await until_async(lambda: counts.lost["silent"] == 1, what="silence is noticed")
                mosquitto.signal(signal.SIGCONT)
                await until_async(lambda: counts.connects >= 2, what="connected again")
                canaries = counts.canaries
                await until_async(lambda: counts.canaries > canaries, what="canaries again")
                assert agent.payloads == []  # a canary is no reading, and makes no tick
                assert all(burst.events for burst in agent.bursts)

    run(test())


def test_a_broker_that_delivers_nothing_is_left_though_it_answers_pings(tmp_path: Path) -> None:
    """Liveness means data seen: its access list does not let the canary pass, and the error says what to look at."""
    access = tmp_path / "acl"
    access.write_text("topic readwrite hw/#\n")
    access.chmod(0o600)

    async def test() -> None:
        with mosquitto_server(tmp_path, f"acl_file {access}") as mosquitto:
            async with client(
                mosquitto.port, canary="50ms", canary_timeout="200ms", keep_alive="1s"
            ) as agent:
                counts = agent.broker.counts
                await until_async(lambda: counts.lost["silent"] >= 1, what="silence is noticed")
                assert "canary" in counts.why or counts.connected
                assert counts.canaries == 0
            async with client(mosquitto.port, canary="0s", keep_alive="1s") as agent:
                await agent.subscribed()
                for n in range(4):
                    publish(mosquitto.port, *numbered(n))
                    await agent.has(n + 1)
                assert not agent.broker.counts.lost

    run(test())


def test_readings_are_as_good_as_canaries(tmp_path: Path) -> None:
    """Where the canary is denied but readings come, the connection stays."""
    access = tmp_path / "acl"
    access.write_text("topic readwrite hw/#\n")

    async def test() -> None:
        with mosquitto_server(tmp_path, f"acl_file {access}") as mosquitto:
            async with client(mosquitto.port, canary="100ms", canary_timeout="400ms") as agent:
                await agent.subscribed()
                began = asyncio.get_running_loop().time()
                n = 0
                while asyncio.get_running_loop().time() < began + 1.0:
                    publish(mosquitto.port, *numbered(n))
                    n += 1
                    await agent.has(n)
                assert not agent.broker.counts.lost

    run(test())


def test_two_agents_with_one_client_id_are_named_though_the_broker_says_nothing(
    mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mosquitto closes the older connection without a word: after a few times in a row the error says what it looks like."""
    said = []

    def named() -> bool:
        said.append(capsys.readouterr().out)
        return any(
            "[error" in line and "another client seems to use the id" in line
            for line in "".join(said).splitlines()
        )

    async def test() -> None:
        async with client(mosquitto.port) as first, client(mosquitto.port) as second:
            await until_async(named, 30, what="it is named")
            assert min(agent.broker.counts.lost["closed"] for agent in (first, second)) >= 2

    run(test())


def test_r09_filters_of_older_settings_are_given_up(mosquitto: Mosquitto) -> None:
    """The broker's session outlives the settings: what was subscribed to before, and is not now, does not come any more."""

    async def test() -> None:
        agent = Agent()
        async with client(mosquitto.port, agent, filters=("old/#", "hw/+/+/data")):
            await agent.subscribed()
        agent.bursts = []
        async with client(mosquitto.port, agent, filters=("hw/#",)):
            await agent.subscribed()
            (given_up,) = agent.of_kind(Unsubscribe)
            assert isinstance(given_up, Unsubscribe)
            assert sorted(given_up.filters) == ["hw/+/+/data", "old/#"]
            publish(mosquitto.port, ("old/x", b"old"), ("hw/s/d/data", b"new"), ("hw/end", b"end"))
            assert await agent.has(2) == [b"new", b"end"]

    run(test())


def test_r20_what_can_be_neither_read_nor_kept_stays_with_the_broker(mosquitto: Mosquitto) -> None:
    """With the dead letters full the agent takes such a message out of its burst: it is not acknowledged, all others are, and
    the connection stays. Some minutes later the broker is asked for it again, and sends it with DUP.
    """
    moved = 0.0

    async def test() -> None:
        nonlocal moved
        async with client(
            mosquitto.port, monotonic=lambda: asyncio.get_running_loop().time() + moved
        ) as agent:
            await agent.subscribed()
            publish(mosquitto.port, *numbered(1, 2, 3))
            await agent.has(3)
            at = next(burst for burst in agent.bursts if b"2" in burst.payloads)
            at.packet_ids[at.payloads.index(b"2")] = 0
            agent.broker.refuse({1})
            agent.acknowledge()
            publish(mosquitto.port, *numbered(4))
            await agent.has(1)
            assert not agent.broker.counts.lost
            agent.acknowledge()
            moved = 301.0
            assert await agent.has(1) == [b"2"]
            (again,) = (burst for burst in agent.bursts if burst.payloads)
            assert again.flags[0] & DUP
            assert agent.broker.counts.lost["dead-letters-full"] == 1

    run(test())


def test_publishing_at_qos_0(tmp_path: Path) -> None:
    """What other parts ask of devices (Sparkplug's rebirth) goes out while the broker is connected, else it is refused."""

    async def test() -> None:
        agent = Agent()
        with mosquitto_server(tmp_path, "max_packet_size 2000") as mosquitto:
            async with client(mosquitto.port, agent, filters=("spBv1.0/#",)):
                assert not agent.broker.publish(b"spBv1.0/g/NCMD/n", b"rebirth")
                await agent.subscribed()
                assert agent.broker.publish(b"spBv1.0/g/NCMD/n", b"rebirth")
                assert await agent.has(1) == [b"rebirth"]
                assert not agent.broker.publish(
                    b"t", b"x" * 3_000
                )  # the broker said that it takes no such packet
                assert not agent.broker.counts.lost
            assert not agent.broker.publish(b"spBv1.0/g/NCMD/n", b"rebirth")

    run(test())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_payload_of_many_reads(mosquitto: Mosquitto, version: str) -> None:
    """A message far longer than one read arrives whole, and so does what is behind it."""

    async def test() -> None:
        async with client(mosquitto.port, version=version) as agent:
            await agent.subscribed()
            publish(mosquitto.port, (TOPIC, b"x" * 900_000), (TOPIC, b"1"))
            assert await agent.has(2) == [b"x" * 900_000, b"1"]

    run(test())


def test_pause_leaves_the_socket_unread_and_keep_alive_goes_on(tmp_path: Path) -> None:
    """While the agent holds back nothing is read, the broker sees our pings, and silence means nothing."""

    async def test() -> None:
        with mosquitto_server(tmp_path) as mosquitto:
            keys: dict[str, Any] = {"keep_alive": "1s", "canary": "100ms", "canary_timeout": "300ms"}
            async with client(mosquitto.port, **keys) as agent:
                await agent.subscribed()
                agent.broker.pause()
                publish(mosquitto.port, *numbered(1))
                await until_async(
                    lambda: mosquitto.log().count("Received PUBLISH from headwater-e1-plant") >= 15,
                    what="1.5 s pass",
                )
                assert agent.payloads == []
                agent.broker.resume()
                await agent.has(1)
                assert not agent.broker.counts.lost

    run(test())


def test_a_broker_that_keeps_its_session_on_disk_gives_back_what_it_held(tmp_path: Path) -> None:
    """Published while we were away, over a restart of the broker."""

    async def test() -> None:
        with mosquitto_server(tmp_path, persistent(tmp_path)) as mosquitto:
            async with client(mosquitto.port) as first:
                await first.subscribed()
            publish(mosquitto.port, *numbered(*range(500)))
            mosquitto.end()
            mosquitto.start()
            async with client(mosquitto.port, first):
                assert await first.has(500) == [b"%d" % n for n in range(500)]
                assert first.broker.counts.sessions_lost == 0

    run(test())


def test_r19_a_broker_with_a_small_window_is_a_sender_that_waits(mosquitto: Mosquitto) -> None:
    """It sends the next message only when it has the acknowledgement of the one before: after three in a row its bursts say
    so, and the ticks that hold them end early. One that has more on the way does not.
    """

    async def waiting(receive_maximum: int) -> list[int]:
        # "At once" is within one and a half naps: long ones leave a busy machine time.
        async with client(mosquitto.port, receive_maximum=receive_maximum, nap="200ms") as agent:
            await agent.subscribed()
            agent.acknowledge()
            publish(mosquitto.port, *numbered(*range(8)))
            said: list[int] = []
            while len(said) < 8:
                await until_async(lambda: agent.payloads, what="more")
                said += [burst.waiting for burst in agent.bursts for _ in burst.payloads]
                if receive_maximum == 1 or len(said) == 8:
                    agent.acknowledge()
            return said

    assert asyncio.run(waiting(1))[4:] == [1, 1, 1, 1]
    assert asyncio.run(waiting(8)) == [0] * 8


def test_r19_messages_of_one_nap_are_one_burst(mosquitto: Mosquitto) -> None:
    """What comes one by one within a nap after the first is read by one wake, and delivered at once."""

    def slowly() -> None:
        with Wire(mosquitto.port, "slowly") as wire:
            for n in range(20):
                wire.send(wire.publish(TOPIC, b"%d" % n))
                wire.read_acknowledgements(n + 1)

    async def test() -> None:
        async with client(mosquitto.port, nap="400ms", canary="0s") as agent:
            await agent.subscribed()
            naps = agent.broker._naps
            await until_async(lambda: naps._timer is None, what="the nap after the SUBACK is over")
            agent.bursts = []
            await asyncio.to_thread(slowly)
            await agent.has(20)
            assert len(agent.bursts) == 1

    run(test())
