"""A device on its socket: what it has given up when it says that it remembers nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headwater_firmware_sim import pipeline
from headwater_shared import ledger as ledgers
from tests.firmware_sim.sink import Connected, sink
from tests.firmware_sim.test_device import WILD


def test_a_reboot_is_in_the_ledger_before_the_server_hears_of_it(tmp_path: Path) -> None:
    """When a clean CONNECT arrives, what the device held is superseded: if the fleet and the server die at that moment, the fleet
    comes back with new messages, and does not claim (DUP) that the new session knew the old ones.
    """
    scenario, ledger = tmp_path / "wild.toml", tmp_path / "ledger"
    scenario.write_text(WILD.replace("reboots = 0.05", "reboots = 0.2"))
    held: list[int] = []

    with sink() as told:
        known = told.session

        def session(connect: Connected) -> bool:
            if connect.clean:
                rows = ledgers.records(ledger)
                messages = ledgers.Messages(rows, 1)
                old = rows[np.isin(rows["kind"], ledgers.SENT) & ((rows["flags"] & ledgers.RESENT) == 0)]
                held.append(int((messages.having(old) & ~messages.with_kind(*ledgers.CLOSED)).sum()))
            return known(connect)

        told.session = session
        done = pipeline.burst(
            "127.0.0.1",
            told.port,
            ledger,
            scenario=str(scenario),
            devices=1,
            samples=60,
            misbehave=True,
            drain_s=5,
        )
    assert done.complete
    assert (ledgers.records(ledger)["kind"] == ledgers.SUPERSEDED).any()
    assert len(held) > 3
    assert not any(held)


def test_after_a_reboot_nothing_is_said_to_have_been_sent_in_a_session_that_is_gone(tmp_path: Path) -> None:
    """At 3.1.1 a clean session ends with its connection: no message goes over one. And if the CONNACK of the session that follows
    is lost, the server says next time that it has this one: what the device holds was still never sent in it (DUP 0).
    """
    scenario = tmp_path / "wild.toml"
    scenario.write_text(WILD.replace("reboots = 0.05", "reboots = 0.2").replace("drops = 0.05", "drops = 0"))
    with sink() as told:
        known = told.session
        lost = [0]

        def session(connect: Connected) -> bool:
            present = known(connect)
            if len(told.connects) > 1 and told.connects[-1].clean and not connect.clean:
                told._clients.add(connect.client)
                told.connects.append(connect)
                lost[0] += 1
                raise OSError("the CONNACK is lost")
            return present

        told.session = session
        done = pipeline.burst(
            "127.0.0.1",
            told.port,
            tmp_path / "ledger",
            scenario=str(scenario),
            devices=1,
            samples=40,
            misbehave=True,
            drain_s=60,
        )
    assert done.complete
    assert lost[0] >= 2
    assert not any(told.connects[one.connection - 1].clean for one in told.published)
    seen = set()
    for one in told.published:
        assert not one.dup or (one.packet_id, one.payload) in seen
        seen.add((one.packet_id, one.payload))
