"""Points in a real InfluxDB 1.x, written by the tests' own few lines: what the audit reads, without the sink."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from urllib.parse import urlencode

from headwater_appliance.audit_stored import Stored, Windows
from headwater_appliance.stack_servers import Influx
from headwater_cloud.influx_lines import database
from tests.stack import influxql


def save(influx: Influx, found: Stored, *, prefix: str = "headwater", more: str = "") -> None:
    """Write what the stores must hold: a database a level; `more` is added to the tags."""
    for windows in found.levels:
        name = database(prefix, windows.level.name)
        influxql(influx, f'CREATE DATABASE "{name}"')
        write(influx, name, points(windows, found.names, more=more))


def points(windows: Windows, names: list[str], *, more: str = "") -> list[str]:
    """Return the windows of a level as line protocol, in microseconds."""
    rows, out = windows.rows, []
    flags = [0] * len(windows) if windows.flags is None else windows.flags.tolist()
    for at in range(len(windows)):
        site, device, metric = (_escaped(word) for word in names[int(windows.series[at])].split("/"))
        digest = int(rows.digest[at])
        floats = {name: float(getattr(rows, name)[at]) for name in ("mean", "min", "max", "first", "last")}
        fields = [f"{name}={value!r}" for name, value in floats.items()]
        ints = {"count": int(rows.count[at]), "digest_hi": digest >> 32, "digest_lo": digest % 2**32}
        fields += [f"{name}={value}i" for name, value in {**ints, "flags": flags[at]}.items()]
        tags = f"site={site},device={device},metric={metric},level={_escaped(windows.level.name)}{more}"
        out.append(f"windows,{tags} {','.join(fields)} {int(windows.start[at])}")
    return out


def write(influx: Influx, name: str, lines: Iterable[str]) -> None:
    """Write lines into a database; all must be taken."""
    asked = http.client.HTTPConnection("127.0.0.1", influx.port, timeout=30)
    try:
        asked.request(
            "POST", f"/write?{urlencode({'db': name, 'precision': 'u'})}", "\n".join(lines).encode()
        )
        answer = asked.getresponse()
        body = answer.read()
        assert answer.status == 204, body
    finally:
        asked.close()


def _escaped(word: str) -> str:
    return word.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
