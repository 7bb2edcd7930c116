"""A store of points on loopback that takes line protocol as InfluxDB 1 does: a point of the same tags and time is written over, field by field.

What it answers can be told, request by request.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

At = tuple[str, str, int]
"""Database, measurement with its tags, time in nanoseconds."""


class Said(NamedTuple):
    """An answer."""

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class LineStore:
    """The store: `points` are all it has; `answer` may return something else than to take them."""

    def __init__(self, port: int = 0) -> None:
        self.points: dict[At, dict[str, Any]] = {}
        self.requests: list[tuple[str, list[str]]] = []
        """Database and lines of each that came, taken or not."""
        self.databases: set[str] | None = None
        """None: whatever is written to is there."""
        self.made: list[str] = []
        self.answer: Callable[[str, list[str]], Said | None] = _taken
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def say(self, said: Said | None) -> None:
        """Answer so from now on; None: take what comes."""
        self.answer = _taken if said is None else lambda _database, _lines: said

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def write(self, database: str, precision: str, lines: list[str]) -> Said:
        self.requests.append((database, lines))
        if (said := self.answer(database, lines)) is not None:
            return said
        if self.databases is not None and database not in self.databases:
            return Said(404, f'{{"error":"database not found: \\"{database}\\""}}')
        for line in lines:
            at, fields = parsed(database, line, 1000 if precision == "u" else 1)
            self.points.setdefault(at, {}).update(fields)
        return Said(204)

    def query(self, text: str) -> Said:
        self.made.append(text)
        if self.databases is not None:
            self.databases.add(text.split('"')[1])
        return Said(200, '{"results":[{"statement_id":0}]}')


def _taken(_database: str, _lines: list[str]) -> Said | None:
    return None


@contextmanager
def line_store(port: int = 0) -> Iterator[LineStore]:
    """Run a store; it is ended with the block."""
    made = LineStore(port)
    try:
        yield made
    finally:
        made.close()


def parsed(database: str, line: str, unit: int) -> tuple[At, dict[str, Any]]:
    """Read a line by what line protocol says of escapes and quotes."""
    words: list[str] = []
    word, quoted, at = "", False, 0
    while at < len(line):
        one = line[at]
        if one == "\\" and at + 1 < len(line):
            word += line[at : at + 2]
            at += 2
            continue
        if one == '"' and words:
            quoted = not quoted
        if one == " " and not quoted:
            words.append(word)
            word = ""
        else:
            word += one
        at += 1
    head, fields, time = *words, word
    return (database, head, int(time) * unit), dict(_fields(fields))


def _fields(text: str) -> Iterator[tuple[str, Any]]:
    while text:
        name, _, rest = text.partition("=")
        if rest.startswith('"'):
            end = 1
            while rest[end] != '"':
                end += 2 if rest[end] == "\\" else 1
            yield name, rest[1:end].replace('\\"', '"').replace("\\\\", "\\")
            text = rest[end + 2 :]
        else:
            value, _, text = rest.partition(",")
            if value in {"true", "false"}:
                yield name, value == "true"
            else:
                yield name, int(value[:-1]) if value.endswith("i") else float(value)


def _handler(store: LineStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            url, text = urlsplit(self.path), body.decode()
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            if url.path == "/write":
                said = store.write(asked["db"], asked["precision"], text.splitlines())
            else:
                said = store.query(parse_qs(text)["q"][0])
            self.send_response(said.status)
            for name, value in said.headers:
                self.send_header(name, value)
            if said.status != 204:
                self.send_header("Content-Length", str(len(said.text)))
            self.end_headers()
            self.wfile.write(said.text.encode() if said.status != 204 else b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
