"""The way to InfluxDB 1.x: `/write` and `/query` on one connection that stays, gzip, a user and a password or neither."""

from __future__ import annotations

import http.client
import socket
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urlsplit

import msgspec
from isal import igzip

from headwater_cloud.influx_write import Answer

_LEVEL = 1
_LONGEST = 100_000
_SHORTEST_S, _LONGEST_S = 3_600, 100 * 365 * 86_400
"""InfluxDB 1.x keeps nothing for less than an hour, and counts no further than 292 years."""


class V1:
    """One store.

    Args:
        url: of its root.
        user, password: empty where it has no users.
        timeout_s: of each answer.
    """

    def __init__(self, url: str, user: str, password: str, timeout_s: float) -> None:
        self._url = urlsplit(url)
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": "headwater"}
        if user:
            self._headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        self._connection: http.client.HTTPConnection | None = None

    def send(self, database: str, lines: bytes, *, nanoseconds: bool) -> Answer:
        query = urlencode({"db": database, "precision": "n" if nanoseconds else "u"})
        return self._ask(f"/write?{query}", igzip.compress(lines, _LEVEL), {"Content-Encoding": "gzip"})

    def make(self, database: str, keep_us: int | None) -> Answer:
        keep_s = None if keep_us is None else keep_us // 1_000_000
        lasts = "INF" if keep_s is None or keep_s > _LONGEST_S else f"{max(_SHORTEST_S, keep_s)}s"
        made = f'CREATE DATABASE "{database}" WITH DURATION {lasts} REPLICATION 1 NAME "autogen"'
        answer = self._ask(
            "/query", urlencode({"q": made}).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        )
        if answer.status == 200:
            with suppress(msgspec.DecodeError, LookupError, TypeError):
                return Answer(400, str(msgspec.json.decode(answer.text)["results"][0]["error"]))
        return answer

    def missing(self, database: str) -> str:
        return f"make it: influx -execute 'CREATE DATABASE \"{database}\"', or give the user of [cloud.influx] all privileges"

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        sent = False
        try:
            if self._connection is None:
                self._connection = self._connected()
            sent = True
            self._connection.request("POST", self._url.path.rstrip("/") + path, body, self._headers | headers)
            found = self._connection.getresponse()
            text = found.read(_LONGEST).decode(errors="replace")
            while found.read(_LONGEST):
                pass
        except (OSError, http.client.HTTPException) as error:
            self.close()
            why = (
                f"no answer within {self._timeout_s:g} s" if isinstance(error, socket.timeout) else str(error)
            )
            why = f"{self._url.hostname}:{self._url.port or ''} {why or type(error).__name__}"
            return Answer(0, why, sent=sent)
        if found.will_close:
            self.close()
        return Answer(found.status, text, seconds_of(found.getheader("Retry-After", "")))

    def _connected(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        made = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        made.connect()
        return made


def seconds_of(retry_after: str) -> float:
    """Read the header Retry-After: seconds, or a date; 0 if it is neither."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
