"""A box whose bus comes and goes: the log lies in a folder that a test mounts and takes away, as a share or a stick would."""

from __future__ import annotations

import socket
import time
from collections import Counter
from pathlib import Path

from headwater_shared import records
from headwater_shared.identity import SHARDS
from headwater_shared.ledger import Message, Reading
from headwater_shared.ledger_writer import Ledger
from headwater_shared.records import Anomaly
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.edge import mqtt
from tests.support import until
from tests.system.box import Box

SLOW = '[edge.forward]\ndrain = "{drain}"\n'
MANY_ROWS = 'bus = "../mount/log.db"\ntick = "20ms"\ntick_readings = 150\n'
"""A tick holds few readings, so that an hour sent in seconds makes as many rows as one sent in an hour."""


def with_mount(folder: Path, drain: str) -> str:
    """Return the agent's settings; `mounted` adds the cloud side's."""
    (folder / "mount").parent.mkdir(parents=True, exist_ok=True)
    return MANY_ROWS + SLOW.format(drain=drain)


def cloud_reads_there(here: Box) -> None:
    """Have the cloud side read the same log."""
    text = here.settings.read_text()
    here.settings.write_text(text.replace("[cloud]\n", '[cloud]\nbus = "../mount/log.db"\n'))


def mount(here: Box) -> None:
    """The share is there (again)."""
    gone = here.folder / "gone"
    if gone.exists():
        gone.rename(here.folder / "mount")
    else:
        (here.folder / "mount").mkdir()


def unmount(here: Box) -> None:
    """The share is away, from one moment to the next."""
    (here.folder / "mount").rename(here.folder / "gone")


def mode(here: Box) -> str:
    return str(here.status().get("forward"))


def ring(here: Box, ledger: Path, number: int) -> float:
    """Let a device break a limit, with the truth kept in the fleet's ledger; return how long its anomaly took to the bus, seconds."""
    began = break_limit(here, ledger, number)
    log = SqliteLog(here.folder / "mount" / "log.db")
    try:
        until(lambda: _is_there(log, f"alarm/alarm-{number}/temperature"), 20, "the anomaly is on the bus")
    finally:
        log.close()
    return time.monotonic() - began


def break_limit(here: Box, ledger: Path, number: int) -> float:
    """Let the device `alarm/alarm-NUMBER` send a temperature that is too high; return when it did, monotonic seconds."""
    now = time.time_ns() // 1000
    book = Ledger(ledger)
    device, metric = book.device("alarm", f"alarm-{number}"), book.metric("temperature")
    book.sent(Message(device, 0, (Reading(metric, now, 99.0),)))
    book.commit()
    topic, payload = f"hw/alarm/alarm-{number}/data/temperature", b'{"t":%d,"v":99.0}' % now
    with socket.create_connection(("127.0.0.1", here.port)) as client:
        client.sendall(mqtt.connect(f"alarm-{number}") + mqtt.publish(topic, payload, 1))
        began = time.monotonic()
        answers = b""
        while len(answers) < 8:  # CONNACK and PUBACK
            more = client.recv(8)
            assert more
            answers += more
    book.acknowledged(device, 0)
    book.commit()
    book.close()
    return began


def _is_there(log: SqliteLog, series: str) -> bool:
    ends = log.ends(IN.name)
    last = {shard: max(0, end - 500) for shard, end in ends.items()}
    return any(
        records.decode(Anomaly, stored.body).series == series
        for stored in log.read(IN.name, last, 100_000)
        if records.kind_of(stored.headers) == records.ANOMALY
    )


def on_the_bus(here: Box) -> tuple[Counter[str], int]:
    """Return how often each frame and anomaly lies on the log, by identity, and how many are marked as replayed."""
    log = SqliteLog(here.folder / "mount" / "log.db")
    found: Counter[str] = Counter()
    replayed = 0
    for stored in log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 1_000_000):
        if records.kind_of(stored.headers) in (records.FRAME, records.ANOMALY):
            found[stored.headers["ce_id"]] += 1
            replayed += stored.headers.get("replayed") == "true"
    log.close()
    return found, replayed
