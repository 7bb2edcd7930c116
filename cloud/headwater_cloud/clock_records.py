"""Clock records: "it is at least this late", for each shard that has ever had input; the operators' only clock (R24)."""

from __future__ import annotations

from collections.abc import Collection

from headwater_cloud.outputs import SOURCE
from headwater_shared import records
from headwater_shared.bus import Bus, Record
from headwater_shared.clock import SYNCHRONISED, Clock
from headwater_shared.records import ClockRecord
from headwater_shared.topics import IN


def append(bus: Bus, clock: Clock, held: Collection[int] | None = None) -> int:
    """Append a record for each shard (of those `held`), all at once; none while the clock is not believed. Returns how many.

    Raises:
        BusUnavailable: the next call is as good.
    """
    now = clock.now()
    shards = sorted(bus.ends(IN.name)) if now.quality == SYNCHRONISED else []
    wanted = [shard for shard in shards if held is None or shard in held]
    bus.append([_record(shard, now.wall_us) for shard in wanted])
    return len(wanted)


def _record(shard: int, time_us: int) -> Record:
    body = records.encode(ClockRecord(shard, time_us))
    headers = records.headers(records.CLOCK, f"clock/{shard}/{time_us}", SOURCE, time_us)
    return Record(IN.name, shard, records.CLOCK, headers, body)
