"""Device status in the cloud's file: each change once, the latest of each device, whatever order and however often they come."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import msgspec

from headwater_cloud.history import History
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import stable_id
from headwater_shared.records import Device
from headwater_shared.topics import IN
from tests.cloud.made import SHARD, T0, S
from tests.cloud.side import FILE, Side

Status = Literal["online", "silent", "offline"]


def change(
    seq: int, status: Status, at: int, before: str = "", agent: str = "a1", shard: int = SHARD
) -> Record:
    time_us = T0 + at * S
    one = Device(
        agent, 1, shard, seq, seq, None, stable_id("device", "s1/d1", status, time_us), "s1/d1", status, before, 0, "reading",
        time_us, time_us,
    )  # fmt: skip
    headers = records.headers(records.DEVICE, records.identity_text(agent, 1, shard, seq), agent, T0)
    return Record(IN.name, SHARD, agent, headers, records.encode(one))


def taken(folder: Path, *some: Record) -> tuple[list[tuple[str, str]], list[str]]:
    """Have a cloud side take records one by one: its latest (device, status), and the history, the newest first."""
    side = Side(folder)
    for one in some:
        side.take(one)
    side.close()
    history = History(folder / FILE)
    latest = [(one.device, str(one.status)) for one in history.devices()]
    changes = [str(one.status) for one in history.device_changes("s1/*")]
    history.close()
    return latest, changes


def test_the_latest_is_kept_whatever_comes_first(tmp_path: Path) -> None:
    """In every order, each once or twice: the status of the last change by time, and each change once."""
    some = [change(1, "online", 1), change(2, "silent", 2, "online"), change(3, "offline", 3, "silent")]
    for number, order in enumerate(itertools.permutations(some)):
        found = taken(tmp_path / str(number), *order, order[0])
        assert found == ([("s1/d1", "offline")], ["offline", "silent", "online"])


def test_what_changes_in_one_tick_is_told_by_its_number(tmp_path: Path) -> None:
    """Of one time the higher number rules; another agent's later word too: the device has moved."""
    found = taken(
        tmp_path, change(2, "silent", 5), change(1, "online", 5), change(1, "offline", 6, agent="a2")
    )
    assert found == ([("s1/d1", "offline")], ["offline", "silent", "online"])


def test_what_is_damaged_or_misplaced_is_a_dead_letter(tmp_path: Path) -> None:
    """Nothing of it is in the tables, and the stream goes on."""
    broken = msgspec.structs.replace(change(1, "online", 1), body=change(1, "online", 1).body[:-3])
    found = taken(tmp_path, broken, change(2, "online", 2, shard=SHARD + 1), change(2, "offline", 2))
    assert found == ([("s1/d1", "offline")], ["offline"])
