"""A strict stand-in for what InfluxDB 2 and 3 take by the v2 write API, over real sockets, with the faults that tests ask for.

No server of these versions can be had here. It holds the points so that tests compare them, and can put them into a real
InfluxDB 1.x as well, which then answers InfluxQL as a DBRP mapping does.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from headwater_appliance.stack_servers import Influx
from tests.influx_v2_http import Handler
from tests.line_protocol import Malformed, Point, Value, kind, lines, parse
from tests.support import free_port

TOKEN, ORG = "a-token", "headwater"
Series = tuple[str, tuple[tuple[str, str], ...]]
"""Measurement and tags."""


class Fault(NamedTuple):
    """What a write gets instead of, or before, its answer."""

    status: int = 0
    """0: the right one."""
    retry_after: str = ""
    cut: Literal["", "before", "after"] = ""
    """The connection is cut before the points are taken, or after."""
    slow_s: float = 0.0
    """How long it takes."""


class Write(NamedTuple):
    """A write that came."""

    bucket: str
    precision: str
    gzip: bool
    lines: int
    bytes: int
    """Of the body as it was sent."""
    status: int
    """0: the connection was cut."""
    at_s: float
    """When it came, monotonic."""


@dataclass
class Bucket:
    """A bucket and its points."""

    id: str
    retention_s: int = 0
    """0: for ever."""
    points: dict[Series, dict[int, dict[str, Value]]] = field(default_factory=dict)
    """By time in nanoseconds; a point that comes again joins its fields to those that are there."""
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)
    """The types of fields by measurement and name: the first one rules."""


class Store:
    """The stand-in: what it holds, what it was sent, and how it is to fail."""

    def __init__(
        self, version: Literal["2", "3"] = "2", *, behind: Influx | None = None, port: int = 0
    ) -> None:
        """Make it, not listening yet.

        Args:
            version: "2" refuses a batch with a malformed line whole, and writes the rest of one with a type conflict (422); "3"
                writes what it can and names the lines that it could not (400).
            behind: a real InfluxDB that gets all points, and answers `/query`.
            port: 0: a free one.
        """
        self.version, self.behind, self.port = version, behind, port or free_port()
        self.buckets: dict[str, Bucket] = {}
        self.writes: list[Write] = []
        self.faults: deque[Fault] = deque()
        """One for each of the next writes."""
        self.standing: Fault | None = None
        """For every write, once `faults` are over."""
        self.most_bytes = 50_000_000
        """Of a body as it is unpacked; above: 413."""
        self.most_lines = 0
        """Of a body; above: 413. 0: any number."""
        self.may_make_buckets = True
        self.refuses: Callable[[Point], str] = lambda _: ""
        """Why a point is none, for reasons of the test's own; empty: it is taken."""
        self.token, self.org = TOKEN, ORG
        self.at_once = 0
        """The largest number of writes that were under way at one time."""
        self.now_ns: Callable[[], int] = time.time_ns
        self._under_way = 0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen."""

        class Mine(Handler):
            store = self

        self._over.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Mine)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more; what it holds stays."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def bucket(self, name: str, retention_s: int = 0) -> Bucket:
        """Make a bucket, or return the one that there is."""
        with self._lock:
            if name not in self.buckets:
                self.buckets[name] = Bucket(f"{len(self.buckets) + 1:016x}", retention_s)
                if self.behind is not None:
                    self.query(urlencode({"q": f'CREATE DATABASE "{name}"'}).encode())
            return self.buckets[name]

    def points(
        self, bucket: str, measurement: str
    ) -> dict[tuple[tuple[tuple[str, str], ...], int], dict[str, Value]]:
        """Return the points of a measurement by tags and time in nanoseconds."""
        with self._lock:
            held = self.buckets[bucket].points.items() if bucket in self.buckets else ()
            return {
                (tags, time_ns): dict(fields)
                for (of, tags), series in held
                if of == measurement
                for time_ns, fields in series.items()
            }

    def statuses(self) -> list[int]:
        """Return what was answered to all writes so far."""
        with self._lock:
            return [write.status for write in self.writes]

    # What the handler asks

    def next_fault(self) -> Fault:
        with self._lock:
            if self.faults:
                return self.faults.popleft()
            return self.standing or Fault()

    @contextmanager
    def one_write(self) -> Iterator[None]:
        with self._lock:
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)

    def note(self, write: Write) -> None:
        with self._lock:
            self.writes.append(write)

    def take(self, name: str, body: str, precision: str) -> tuple[int, dict[str, Any] | None]:
        """Take a body into a bucket; return status and answer."""
        good: list[tuple[int, str, Point]] = []
        bad: list[dict[str, Any]] = []
        for number, line in lines(body):
            try:
                point = parse(line, precision)
                if why := self.refuses(point):
                    raise Malformed(why)
                good.append((number, line, point))
            except Malformed as why:
                bad.append({"original_line": line, "line_number": number, "error_message": str(why)})
        if bad and self.version == "2":
            said = "\n".join(
                f"unable to parse '{one['original_line']}': {one['error_message']}" for one in bad
            )
            return 400, {"code": "invalid", "message": said}
        with self._lock:
            return self._write(self.buckets[name], name, good, bad)

    def _write(
        self, bucket: Bucket, name: str, good: list[tuple[int, str, Point]], bad: list[dict[str, Any]]
    ) -> tuple[int, dict[str, Any] | None]:
        conflicts, old, taken = [], 0, []
        oldest = self.now_ns() - bucket.retention_s * 10**9 if bucket.retention_s else -(2**63)
        for number, line, point in good:
            conflict = _conflict(bucket, point)
            if point.time_ns < oldest:
                old += 1
            elif conflict:
                conflicts.append(conflict)
                bad.append({"original_line": line, "line_number": number, "error_message": conflict})
            else:
                held = bucket.points.setdefault((point.measurement, point.tags), {})
                held.setdefault(point.time_ns, {}).update(point.fields)
                taken.append((point.time_ns, line))
        self._pass_on(name, taken)
        if self.version == "3":
            wrong = {"error": "partial write of line protocol occurred", "data": bad}
            return (400, wrong) if bad else (204, None)
        if conflicts or old:
            why = conflicts[0] if conflicts else "points beyond retention policy"
            text = f"failure writing points to database: partial write: {why} dropped={len(conflicts) + old}"
            return 422, {"code": "unprocessable entity", "message": text}
        return 204, None

    def _pass_on(self, name: str, taken: list[tuple[int, str]]) -> None:
        if self.behind is None or not taken:
            return
        text = "\n".join(f"{line.rpartition(' ')[0]} {time_ns}" for time_ns, line in taken)
        status, body = self._behind(f"/write?{urlencode({'db': name})}", text.encode(), "text/plain")
        assert status == 204, body

    def query(self, body: bytes) -> tuple[int, bytes]:
        """Have the InfluxDB behind answer InfluxQL."""
        return self._behind("/query", body, "application/x-www-form-urlencoded")

    def _behind(self, path: str, body: bytes, kind_: str) -> tuple[int, bytes]:
        if self.behind is None:
            return 404, b'{"code":"not found","message":"path not found"}'
        asked = http.client.HTTPConnection("127.0.0.1", self.behind.port, timeout=60)
        try:
            asked.request("POST", path, body, {"Content-Type": kind_})
            answer = asked.getresponse()
            return answer.status, answer.read()
        finally:
            asked.close()


def _conflict(bucket: Bucket, point: Point) -> str:
    for name, value in point.fields.items():
        there = bucket.kinds.get((point.measurement, name))
        if there not in {None, kind(value)}:
            return (
                f'field type conflict: input field "{name}" on measurement "{point.measurement}" is type {kind(value)}, '
                f"already exists as type {there}"
            )
    bucket.kinds.update({(point.measurement, name): kind(value) for name, value in point.fields.items()})
    return ""


@contextmanager
def listening(store: Store) -> Iterator[Store]:
    """Let it listen for the time of the block."""
    store.start()
    try:
        yield store
    finally:
        store.stop()
