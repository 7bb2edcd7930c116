"""A damaged file of the cloud side: one clear line, and the log makes it anew; a damaged log: the agents send again."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_cloud import process
from headwater_cloud.store import Store
from headwater_shared.errors import BusUnavailable, StateError
from headwater_shared.sqlite_log import SqliteLog
from tests.cloud.made import Agent, row
from tests.cloud.side import FILE, LOG, Side


def _sent(agent: Agent, n: int) -> list[object]:
    return [agent.frame(row(10 * at, 1.0 + at, opened=("a1", 1, at))) for at in range(n)]


@pytest.mark.parametrize("at", [0, 8192], ids=["its head", "its pages"])
def test_a_damaged_file_is_refused_and_made_anew_from_the_log(
    tmp_path: Path, at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 78, a line and its hint; moved away, the same windows come out of the log, none lost, none twice."""
    side = Side(tmp_path / "cloud")
    side.take(*_sent(Agent(), 5))  # type: ignore[arg-type]
    windows = side.rows("SELECT level, start, count, digest FROM window ORDER BY 1, 2")
    side.close()
    file = tmp_path / "cloud" / FILE
    body = bytearray(file.read_bytes())
    body[at:] = b"\xff" * (len(body) - at)
    file.write_bytes(body)
    (tmp_path / "settings.toml").write_text(
        f'[common]\ndata = "{tmp_path / "cloud"}"\n[cloud]\nhealth_port = 0\n'
    )
    assert process.main([str(tmp_path / "settings.toml")]) == 78
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert "hint: move it and its -wal away" in said
    assert "Traceback" not in said
    assert file.read_bytes() == bytes(body)
    file.rename(file.with_name("kept.db"))
    again = Side(tmp_path / "cloud")
    again.take()
    assert again.rows("SELECT level, start, count, digest FROM window ORDER BY 1, 2") == windows
    again.close()


def test_a_store_that_is_damaged_is_not_opened(tmp_path: Path) -> None:
    """Nobody writes to it."""
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(StateError, match="is damaged"):
        Store(tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == b"no database" * 1000


def test_a_damaged_log_is_a_bus_that_does_not_answer(tmp_path: Path) -> None:
    """Its users wait, and the hint says what to do; agents keep their rows until the cloud side has them."""
    (tmp_path / LOG).write_bytes(b"no database" * 1000)
    with pytest.raises(BusUnavailable) as caught:
        SqliteLog(tmp_path / LOG)
    assert "move it away" in caught.value.hint
