"""`sink-catch-up`: the store was away for an hour of the demo's fleet; how fast the sink brings it up to date, and what a point costs it."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from headwater_appliance.audit_influxql import Source, ask, names, quoted
from headwater_appliance.stack_servers import Influx
from tests.bench.results import Result
from tests.stack import influxql, make, running
from tests.support import until
from tests.system import stored
from tests.system.box import Box
from tests.system.test_up import place_of

DEVICES = "40"
_HOUR_S = 3600.0
_BATCH = 5_000
_INTEGERS = {
    "count", "digest_hi", "digest_lo", "parts", "revision", "flags", "end_us", "fired_us", "heard_us", "code", "n", "changed_us"
}  # fmt: skip


def run(folder: Path) -> Iterator[Result]:
    """Kill InfluxDB, send an hour of 40 pumps, start it again, and wait until it has all; then write the same lines by hand."""
    server = make(Influx, folder / "influx")
    here = Box(folder / "box")
    stored.settings(here, server.url)
    with running(server) as store, stored.running(here):
        with stored.fleet(here, _HOUR_S, "--devices", DEVICES, "--in-flight", "64") as fleet:
            until(lambda: names(Source(server.url)), 60, "the sink writes")
            store.kill()
            fleet.finished(600)
        here.closed()
        until(lambda: _settled(here), 60, "the cloud side has everything")
        changes = stored.behind(here)
        pid = int(place_of(here, stored.SINK)["pid"])
        began, cpu = time.monotonic(), _cpu(pid)
        store.start()
        first = _first(here, changes, began)
        until(lambda: stored.behind(here) == 0, 600, "the store has all")
        took, cpu = time.monotonic() - began, _cpu(pid) - cpu
        said = stored.audit_store(here, fleet.ledger)
        bodies, points = _bodies(Source(server.url))
        plain = _plain(server, bodies)
    yield Result(
        "sink-catch-up",
        _HOUR_S / took,
        "times real time",
        _HOUR_S / plain,
        f"the same points posted to the same store in bodies of {_BATCH:,} lines that were made before, by http.client",
        "InfluxDB 1.6 on the same machine, WAL with fsync",
        {
            "caught up in s, from when the store answers": took,
            "of which until its first write": first,
            "points": points,
            "points/s": points / (took - first),
            "CPU of the sink, us a point": cpu / points * 1e6,
            "rows of changes that waited": changes,
            "readings": said.counted,
        },
    )


def _settled(here: Box) -> bool:
    """Rollups follow their windows by seconds: nothing was noted for a while."""
    before = stored.behind(here)
    end = time.monotonic() + 4.0
    try:
        until(lambda: stored.behind(here) != before, end - time.monotonic())
    except AssertionError:
        return True
    return False


def _first(here: Box, changes: int, began: float) -> float:
    until(lambda: stored.behind(here) < changes, 120, "the first write")
    return time.monotonic() - began


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bodies(source: Source) -> tuple[list[tuple[str, bytes]], int]:
    """Read all points out again as line protocol, in bodies for one database each; return them, and how many points."""
    bodies: list[tuple[str, bytes]] = []
    points = 0
    for name in names(source):
        if not name.startswith(f"{source.prefix}_"):
            continue
        lines: list[str] = []
        for series in ask(source, f'SELECT * FROM {quoted(name)}.."windows" GROUP BY *', name):
            tags = ",".join(
                f"{tag}={value.replace(' ', chr(92) + ' ')}" for tag, value in series.tags.items()
            )
            for time_us, *values in series.values:
                fields = ",".join(
                    f"{field}={value}{'i' if field in _INTEGERS else ''}"
                    for field, value in zip(series.columns[1:], values, strict=True)
                    if value is not None
                )
                lines.append(f"windows,{tags} {fields} {time_us}")
        points += len(lines)
        bodies += [
            (f"again_{name}", "\n".join(lines[at : at + _BATCH]).encode())
            for at in range(0, len(lines), _BATCH)
        ]
    return bodies, points


def _plain(server: Influx, bodies: list[tuple[str, bytes]]) -> float:
    """Write them one after the other into databases of their own; return the seconds."""
    for name in {name for name, _ in bodies}:
        influxql(server, f"CREATE DATABASE {quoted(name)}")
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    began = time.monotonic()
    for name, body in bodies:
        asked.request("POST", f"/write?{urlencode({'db': name, 'precision': 'u'})}", body)
        answer = asked.getresponse()
        assert answer.status == 204, answer.read()
        answer.read()
    took = time.monotonic() - began
    asked.close()
    return took
