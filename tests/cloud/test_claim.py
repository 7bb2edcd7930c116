"""A file of the cloud side is one process's or the workers': neither goes on with the other's."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_cloud.retention import Keep
from headwater_cloud.settings import CloudSettings
from headwater_cloud.shared_store import SharedStore
from headwater_cloud.store import Store
from headwater_shared.errors import StateError

BUS = "kafka:one"
KEEP: Keep = CloudSettings().kept()


def workers(path: Path, group: str = "workers") -> None:
    """Take a file up as a worker does."""
    sink = SharedStore(path, KEEP)
    try:
        sink.take_up(BUS, group)
    finally:
        sink.close()


def one_process(path: Path) -> None:
    """Take a file up as the local runner does."""
    store = Store(path)
    with store.transaction():
        store.note_log(BUS, anew=False)
    store.close()


def test_r24_workers_refuse_a_file_with_the_state_of_one_process(tmp_path: Path) -> None:
    """They know nothing of its windows' parts: a late one would be written over the whole window. The file stays as it was."""
    file = tmp_path / "cloud.db"
    one_process(file)
    with pytest.raises(StateError, match="made by one process") as refused:
        workers(file)
    assert "[cloud] file" in refused.value.hint
    one_process(file)


def test_r24_one_process_refuses_the_workers_file(tmp_path: Path) -> None:
    """The same the other way round; workers come and go on their own."""
    file = tmp_path / "cloud.db"
    workers(file)
    workers(file)
    with pytest.raises(StateError, match="the workers'"):
        one_process(file)
    workers(file)


def test_r27_workers_of_another_group_refuse_a_file(tmp_path: Path) -> None:
    """They begin with the oldest record, and would write over alerts what these were a week ago."""
    file = tmp_path / "cloud.db"
    workers(file)
    with pytest.raises(StateError, match="of the group 'workers'") as refused:
        workers(file, "again")
    assert "another file" in refused.value.hint
    workers(file)
