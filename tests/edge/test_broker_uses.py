"""R3 for a broker and for clients of MQTT 3.1.1: each may have more in flight than the listener allows, and the last use of each id is kept."""

from __future__ import annotations

import msgspec

from headwater_edge.events import Connect
from headwater_edge.sessions import NEVER
from tests.edge.feed import Message, step_settings_of
from tests.edge.run import Run

IN_FLIGHT = 5_000


def _untimed(packet_id: int, connection: int, *, dup: bool = False) -> Message:
    """A reading without a time: only R3 can tell that it was there."""
    return Message((("s/d/m", None, float(packet_id)),), connection, packet_id, dup)


def test_r03_a_broker_may_have_far_more_in_flight_than_a_device() -> None:
    """5,000 unacknowledged messages are all known when they come again, beside a device of the listener, over a restart."""
    agent = Run(step_settings_of())
    agent.start()
    broker = Connect(1, "\0broker/plant", "", clean=True, expiry_s=NEVER)
    agent.tick(events=(broker, Connect(2, "device", "", clean=True, expiry_s=3600)))
    ids = [n % 65_535 + 1 for n in range(30_000)]
    for begin in range(0, len(ids), 500):
        agent.tick(*[_untimed(i, c) for i in ids[begin : begin + 500] for c in (1, 2)])
    agent.picture()
    agent.crash(agent.pictures[-1])
    agent.start()
    agent.tick(events=(msgspec.structs.replace(broker, clean=False),))
    before = agent.state.counters.accepted
    agent.tick(*[_untimed(i, 1, dup=True) for i in ids[-IN_FLIGHT:]])
    assert agent.state.counters.by_transport == IN_FLIGHT
    assert agent.state.counters.accepted == before


def test_r03_a_client_of_3_1_1_may_have_more_in_flight_than_we_allow() -> None:
    """One read brings up to some 3,000 messages: all are known when they come again, whatever others sent since, over a restart."""
    agent = Run(step_settings_of())
    agent.start()
    far = Connect(1, "far", "", clean=True, expiry_s=NEVER)
    agent.tick(events=(far, Connect(2, "slow", "", clean=True, expiry_s=NEVER)))
    agent.tick(*[_untimed(i, 1) for i in range(1, 3_001)])
    agent.picture()
    for begin in range(0, 40_000, 500):
        agent.tick(*[_untimed(i % 65_535 + 1, 2) for i in range(begin, begin + 500)])
        if begin == 20_000:
            agent.crash(agent.pictures[-1])
            agent.start()
            agent.tick(events=(Connect(2, "slow", "", clean=False, expiry_s=NEVER),))
    agent.tick(events=(msgspec.structs.replace(far, clean=False),))
    before = agent.state.counters.accepted
    agent.tick(*[_untimed(i, 1, dup=True) for i in range(1, 3_001)])
    assert agent.state.counters.by_transport == 3_000
    assert agent.state.counters.accepted == before


def test_r13_a_broker_that_lost_the_session_starts_the_ids_anew() -> None:
    """The CONNACK says so: what comes with DUP afterwards repeats nothing of before."""
    agent = Run(step_settings_of())
    agent.start()
    broker = Connect(1, "\0broker/plant", "", clean=True, expiry_s=NEVER)
    agent.tick(_untimed(7, 1), events=(broker,))
    kept = msgspec.structs.replace(broker, connection=2, clean=False)
    agent.tick(_untimed(7, 2, dup=True), events=(kept,))
    assert agent.state.counters.by_transport == 1
    agent.tick(_untimed(7, 3, dup=True), events=(msgspec.structs.replace(broker, connection=3),))
    assert agent.state.counters.by_transport == 1
