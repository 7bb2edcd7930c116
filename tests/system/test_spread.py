"""A hot site over several shards on a whole box: the audit proves every window, over the moment at which the map changes (R25)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from headwater_shared import frame, records
from headwater_shared.identity import SHARDS
from headwater_shared.spread import Spread, SpreadMap
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.system import kills
from tests.system.box import CLOUD, EDGE, box
from tests.system.load import ORIGIN, load

LEVELS = 'windows.levels = ["1s", "5s"]\n'


def test_r25_the_audit_proves_a_site_that_is_spread_while_it_sends(tmp_path: Path) -> None:
    """The map changes in the middle of a run, and the agent is killed after it: lost 0, twice 0, and on the bus each window is in the
    one shard that the map says, some of them in shards that are not the site's.
    """
    moment = datetime.fromisoformat(ORIGIN) + timedelta(seconds=15)
    from_us, at = round(moment.timestamp() * 1e6), moment.isoformat()
    entries = [Spread(site, from_us, 4) for site in ("west", "east")]
    tables = "".join(
        f'[[edge.spread]]\nsite = "{one.site}"\nover = {one.over}\nfrom = "{at}"\n' for one in entries
    )
    with box(tmp_path, edge=LEVELS + tables) as here:
        here.up()
        with load(here, 30, "--devices", "20") as fleet:
            fleet.goes_on(1_500)
            here.kill(EDGE)
            assert fleet.sending()
            here.start(EDGE)
            here.ready(EDGE)
            fleet.finished()
        here.closed()
        said = here.run("headwater", "audit", str(fleet.ledger), "--json")
        evidence = json.loads(said[: said.rindex("}") + 1])
        here.end(EDGE)
        here.end(CLOUD)
        assert not here.troubles()
        found = _shards(here.data / "log.db")
    assert kills.AUDITED.fullmatch(evidence["line"])
    assert evidence["good"]
    spread = SpreadMap(entries)
    assert all(spread.shard(series, start) == shard for (series, _, start), shard in found.items())
    moved = {
        (series, start >= from_us) for (series, _, start) in found if series.startswith(("west/", "east/"))
    }
    assert {after for _, after in moved} == {False, True}
    assert len(set(found.values())) > 4


def _shards(path: Path) -> dict[tuple[str, str, int], int]:
    """Return the shard of each window that the bus holds a part of."""
    log = SqliteLog(path)
    found: dict[tuple[str, str, int], int] = {}
    for stored in log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 1_000_000):
        if records.kind_of(stored.headers) == records.FRAME:
            one = frame.decode(stored.body)
            parts = one.parts
            for row in range(len(parts)):
                place = parts.names[parts.series[row]], parts.levels[parts.level[row]], int(parts.start[row])
                assert found.setdefault(place, one.shard) == one.shard
    log.close()
    return found
