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
