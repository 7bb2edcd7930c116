"""Rows that SQLite reads without a word and that are none of their table's: the agent starts, and nothing waiting is lost (R15)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headwater_edge import aside
from tests.edge import damaged
from tests.edge.damaged import Victim, copied, start_again
from tests.edge.running import FILE

FOREIGN = {
    "birth": "(37, 17)",
    "sent": "(7, x'00')",
    "arrival": "(99999, 5)",
    "coverage": "(99999, 'x', 5)",
    "dead_letter": "(1, 99, 5, 'reason', 'detail', 7, 8, NULL)",
    "evicted": "(1, 's1/d1/temp', 7, 8)",
    "alert": "(1, 'log', 'key', 'topic', 5)",
    "epoch": "(99999, 5, 6, 'version')",
    "journal": "((SELECT max(tick) + 1 FROM journal), 5)",
    "outbox": "(NULL, 99999, 1, x'00', 'x', 1, 'frame', x'00', x'00')",
}
"""What a page of another table gives, where a page of this one should be."""
WORDS = ("gaps", "ungiven", "bus", "was_set_aside", "set_aside", "attempts", "open")
"""What the file says of itself and of what waits in it."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return damaged.victim(tmp_path_factory.mktemp("victim"), pictures=True)


@pytest.fixture
def victim(killed: Victim, tmp_path: Path) -> Victim:
    return copied(killed, tmp_path / "copy")


def _change(victim: Victim, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        connection.execute(statement, values)
        connection.execute("DELETE FROM meta WHERE name = 'open'")  # the log goes with the last connection


def _all_there(victim: Victim) -> None:
    after = start_again(victim)
    assert set(victim.sent) - after.counted <= after.dead


def _set_aside(victim: Victim) -> list[str]:
    return [path.name for path in aside.all_aside(victim.folder / FILE)]


@pytest.mark.parametrize("table", FOREIGN)
def test_r15_a_row_of_another_table_is_damage(victim: Victim, table: str) -> None:
    """Pages that changed places (found by random damage: births were integers): the file is set aside, all that waits goes out."""
    _change(victim, f"INSERT INTO {table} VALUES {FOREIGN[table]}")
    _all_there(victim)
    assert _set_aside(victim) == [f"{FILE}.damaged-1"]


def test_r15_a_name_that_is_no_text_is_damage(victim: Victim) -> None:
    """A flipped bit makes of a column's name what is no UTF-8 (found by random damage); SQLite calls it an operational error."""
    _change(victim, "DELETE FROM meta WHERE name = 'nothing'")
    path = victim.folder / FILE
    body = bytearray(path.read_bytes())
    body[body.find(b"coverage(tick INTEGER") + len(b"coverage(")] ^= 0x80
    path.write_bytes(body)
    _all_there(victim)
    assert _set_aside(victim) == [f"{FILE}.damaged-1"]


@pytest.mark.parametrize(
    "topic", [b"spBv1.0/plant/NBIRTX/node", b"spBv1.0/plant/NBIRTH/\xff", b"spBv1.0/pl+nt/NBIRTH/n"]
)
def test_r15_a_birth_that_cannot_be_read_stops_no_start(victim: Victim, topic: bytes) -> None:
    """A flipped bit in its topic: the node is asked for another with its next data; the file is sound otherwise, and stays."""
    _change(victim, "INSERT INTO birth VALUES (?, ?)", topic, b"")
    _all_there(victim)
    assert _set_aside(victim) == []


@pytest.mark.parametrize("value", ["[[1, 2", "{}", b"\xff", 7])
@pytest.mark.parametrize("name", WORDS)
def test_r15_a_damaged_word_of_the_file_stops_no_start(victim: Victim, name: str, value: object) -> None:
    """Whatever became of one value that the file keeps beside its rows, a start comes of it, and all that waits goes out."""
    _change(victim, "INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)
    _all_there(victim)
