"""What an agent does of its own accord while it holds back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater_edge import forward, keeping, pipeline, pressure
from headwater_edge.store import read_store
from headwater_shared import records
from headwater_shared.records import Have
from headwater_shared.sqlite_log import SqliteLog
from tests.edge.forwarding import AGENT, have_record
from tests.edge.running import FILE, LOG, Publish, edge_settings, running
from tests.support import until_async


def test_r17_while_it_holds_back_snapshots_come_so_that_rows_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quota is reached, and nothing is taken in that would make a snapshot due. The cloud then has all that was sent: two
    snapshots are taken, and ticks between them, so that no row is left.
    """
    monkeypatch.setattr(pressure, "fitting", lambda limits, _snapshot: limits)
    monkeypatch.setattr(keeping, "_REPLAY_US", 10**12)
    for module in (pipeline, forward):
        monkeypatch.setattr(module, "_LOOK_S", 0.02)

    async def test() -> None:
        async with running(tmp_path, edge_settings(name=AGENT)) as box:
            bodies = [b'{"t":%d,"v":%d}' % ((1_800_000_000 + at) * 1_000_000, at) for at in range(0, 300, 5)]
            await box.publish(*[Publish("hw/s1/d1/data/temp", body) for body in bodies])
            await box.agent.flush()
            await box.forwarded()
            box.agent.pressure._asked = box.agent.pressure._asked._replace(quota=1)
            await until_async(lambda: "quota" in box.agent.holding)
            reader = read_store(tmp_path / FILE)
            rows = reader.execute(
                "SELECT epoch, shard, max(seq) FROM outbox GROUP BY epoch, shard"
            ).fetchall()
            assert rows
            log = SqliteLog(tmp_path / LOG)
            for epoch, shard, last in rows:
                have = Have(AGENT, int.from_bytes(epoch, "little"), shard, [1, last])
                log.append([have_record(records.encode(have), shard)])
            log.close()
            left = "SELECT count(*) FROM outbox"
            await until_async(lambda: reader.execute(left).fetchone() == (0,), 20, "no row is left")
            reader.close()

    asyncio.run(test())
