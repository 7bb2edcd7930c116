"""The tables of alerts are read models: thrown away and made again from the topics, by the code that writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from headwater_cloud.alert_changes import Change
from headwater_cloud.commands import bus_of
from headwater_cloud.settings import CloudSettings, in_data
from headwater_cloud.store import APPLICATION, SCHEMA, one_commit
from headwater_cloud.write import write_alerts
from headwater_shared import logs, records
from headwater_shared.alert_records import Alert
from headwater_shared.bus import Bus, Stored
from headwater_shared.settings import Common, load
from headwater_shared.sqlite_file import WriterLock, open_writer
from headwater_shared.topics import ALERT_EVENTS, ALERTS, Topic

log = logs.get_logger()

_PAGE = 1_000


def rebuild(settings: Path | None) -> dict[str, int]:
    """Make the tables again, in one commit. Returns how many rows they have.

    Raises:
        StateInUse: the cloud side runs: what it has written and not yet put on the bus would be lost from the tables.
        BusUnavailable, StateError: bus or file cannot be read; nothing was changed.
    """
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    path = in_data(common.data, cloud.file)
    with ExitStack() as stack:
        stack.enter_context(WriterLock(path))
        for slot in sorted(Path(common.data).glob("worker-*.lock")):
            stack.enter_context(WriterLock(slot.with_suffix("")))
        bus = stack.enter_context(closing(bus_of(settings)))
        wal = path.with_name(path.name + "-wal").exists()
        connection = open_writer(path, application=APPLICATION, schema=SCHEMA, page_size=8192, wal=wal)
        stack.callback(connection.close)
        with one_commit(connection, path):
            return made_again(connection, bus)


def made_again(connection: sqlite3.Connection, bus: Bus) -> dict[str, int]:
    """Make the tables again inside an open transaction."""
    connection.execute("DELETE FROM alert")
    connection.execute("DELETE FROM alert_event")
    for topic in (ALERTS, ALERT_EVENTS):
        for some in _pages(_all(connection, bus, topic)):
            write_alerts(
                connection, [Change(one, topic is ALERT_EVENTS, topic is ALERTS) for one in some if one]
            )
    return {
        name: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        for name, table in (("alerts", "alert"), ("events", "alert_event"))
    }


def _all(connection: sqlite3.Connection, bus: Bus, topic: Topic) -> Iterator[Alert | None]:
    """Yield what is on a topic, and then what is committed and not yet there."""
    at = dict.fromkeys(range(topic.partitions), 0)
    while some := bus.read(topic.name, at, _PAGE):
        for stored in some:
            at[stored.partition] = stored.offset + 1
            yield _decoded(stored)
    for (body,) in connection.execute("SELECT body FROM output WHERE topic = ? ORDER BY id", (topic.name,)):
        yield records.decode(Alert, body)


def _decoded(stored: Stored) -> Alert | None:
    try:
        return records.decode(Alert, stored.body)
    except (ValueError, msgspec.ValidationError) as error:
        log.warning("a record of an alert cannot be read", key=stored.key, error=error)
        return None


def _pages(some: Iterable[Alert | None]) -> Iterator[list[Alert | None]]:
    page: list[Alert | None] = []
    for one in some:
        page.append(one)
        if len(page) == _PAGE:
            yield page
            page = []
    yield page
