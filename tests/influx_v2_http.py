"""The HTTP side of the v2 stand-in: routes, tokens, sizes, encodings, and the connections that it cuts."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.line_protocol import PRECISIONS

if TYPE_CHECKING:
    from tests.influx_v2 import Bucket, Fault, Store

ORG_ID = "0a1b2c3d4e5f6071"

_CODES = {
    200: "of something between", 400: "invalid", 401: "unauthorized", 403: "forbidden", 404: "not found", 413: "request too large",
    422: "unprocessable entity", 429: "too many requests", 500: "internal error", 503: "unavailable",
}  # fmt: skip


class Refusal(Exception):
    """What is answered instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    store: Store
    timeout = 60

    def do_GET(self) -> None:
        self._answered()

    def do_HEAD(self) -> None:
        self._answered()

    def do_POST(self) -> None:
        self._answered()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answered(self) -> None:
        split = urlsplit(self.path)
        words = {name: values[-1] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._route(split.path, words, body)
        except Refusal as why:
            self._json(why.status, {"code": _CODES[why.status], "message": why.message})

    def _route(self, path: str, words: dict[str, str], body: bytes) -> None:
        post = self.command == "POST"
        if path == "/ping":
            self._send(204, b"")
        elif path == "/health":
            self._json(200, {"name": "influxdb", "status": "pass", "message": "ready for queries and writes",
                             "checks": [], "version": "v2.7.11"})  # fmt: skip
        elif path == "/api/v2/write" and post:
            self._write(words, body)
        elif path == "/api/v2/orgs" and not post:
            self._known()
            self._orgs(words)
        elif path == "/api/v2/buckets":
            self._known()
            self._make(body) if post else self._buckets(words)
        elif path == "/query":
            self._known()
            self._send(*self.store.query(body or urlsplit(self.path).query.encode()))
        else:
            raise Refusal(404, "path not found")

    def _known(self) -> None:
        if self.headers.get("Authorization") != f"Token {self.store.token}":
            raise Refusal(401, "unauthorized access")

    def _write(self, words: dict[str, str], body: bytes) -> None:
        store, at_s = self.store, time.monotonic()
        zipped = self.headers.get("Content-Encoding") == "gzip"
        name, precision = words.get("bucket", ""), words.get("precision", "ns")

        def note(lines: int, status: int) -> None:
            store.note(Write(name, precision, zipped, lines, len(body), status, at_s))

        from tests.influx_v2 import Write

        with store.one_write():
            fault = store.next_fault()
            if fault.slow_s:
                store.wait(fault.slow_s)
            if fault.cut == "before":
                note(0, 0)
                self._cut()
                return
            lines = 0
            try:
                text = self._readable(words, body, zipped=zipped)
                lines = counted(text)
                self._instead(fault)
                status, answer = store.take(name, text, precision)
            except Refusal as why:
                note(lines, why.status)
                self._json(
                    why.status,
                    {"code": _CODES[why.status], "message": why.message},
                    {"Retry-After": fault.retry_after} if fault.retry_after else {},
                )
                return
            if fault.cut == "after":
                note(lines, 0)
                self._cut()
                return
            note(lines, status)
        if answer is None:
            self._send(status, b"")
        else:
            self._json(status, answer)

    def _readable(self, words: dict[str, str], body: bytes, *, zipped: bool) -> str:
        """Check all that is asked for before the lines are read, and return them."""
        store = self.store
        self._known()
        if words.get("precision", "ns") not in PRECISIONS:
            raise Refusal(400, f"invalid precision; valid precision units are {', '.join(PRECISIONS)}")
        if words.get("org") not in {store.org, ORG_ID}:
            raise Refusal(404, f'organization name "{words.get("org", "")}" not found')
        if words.get("bucket", "") not in store.buckets:
            raise Refusal(404, f'bucket "{words.get("bucket", "")}" not found')
        if not (self.headers.get("Content-Type") or "").startswith("text/plain"):
            raise Refusal(400, "the content type is not text/plain")
        try:
            plain = gzip.decompress(body) if zipped else body
            text = plain.decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise Refusal(400, f"failed to read the body: {error}") from None
        many = store.most_lines and counted(text) > store.most_lines
        if len(plain) > store.most_bytes or many:
            raise Refusal(413, "unable to read data: points batch is too large")
        if not text.strip():
            raise Refusal(400, "writing requires points")
        return text

    def _instead(self, fault: Fault) -> None:
        if fault.status:
            raise Refusal(fault.status, f"the test wants {fault.status}")

    def _orgs(self, words: dict[str, str]) -> None:
        wanted = words.get("org", self.store.org)
        found = [{"id": ORG_ID, "name": self.store.org}] if wanted == self.store.org else []
        if not found:
            raise Refusal(404, f'organization name "{wanted}" not found')
        self._json(200, {"links": {"self": "/api/v2/orgs"}, "orgs": found})

    def _buckets(self, words: dict[str, str]) -> None:
        name = words.get("name")
        found = [_shown(of, one) for of, one in self.store.buckets.items() if name in {None, of}]
        begin = int(words.get("offset", 0))
        some = found[begin : begin + int(words.get("limit", 20))]
        self._json(200, {"links": {"self": "/api/v2/buckets"}, "buckets": some})

    def _make(self, body: bytes) -> None:
        store = self.store
        if not store.may_make_buckets:
            raise Refusal(401, f"write:orgs/{ORG_ID}/buckets is unauthorized")
        try:
            said = msgspec.json.decode(body)
            name, org = said["name"], said["orgID"]
            rules = said.get("retentionRules", [])
            seconds = int(rules[0]["everySeconds"]) if rules else 0
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise Refusal(400, f"a bucket wants orgID, name and retentionRules: {error}") from None
        if org != ORG_ID:
            raise Refusal(404, "organization not found")
        if 0 < seconds < 3600:
            raise Refusal(422, "expiration seconds must be greater than or equal to one hour")
        if name in store.buckets:
            raise Refusal(422, f"bucket with name {name} already exists")
        self._json(201, _shown(name, store.bucket(name, seconds)))

    def _json(self, status: int, body: Any, more: dict[str, str] | None = None) -> None:
        self._send(status, msgspec.json.encode(body), more, "application/json; charset=utf-8")

    def _send(
        self, status: int, body: bytes, more: dict[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        self.send_response(status)
        for name, value in {
            "X-Influxdb-Version": "v2.7.11",
            "X-Influxdb-Build": "OSS",
            **(more or {}),
        }.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def _cut(self) -> None:
        """End the connection without a word, as a network does that goes away."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def counted(text: str) -> int:
    """Return how many lines a body has."""
    return text.rstrip("\n").count("\n") + 1


def _shown(name: str, bucket: Bucket) -> dict[str, Any]:
    rules = [{"type": "expire", "everySeconds": bucket.retention_s}] if bucket.retention_s else []
    return {"id": bucket.id, "orgID": ORG_ID, "type": "user", "name": name, "retentionRules": rules,
            "createdAt": "2026-11-26T00:00:00Z", "updatedAt": "2026-11-26T00:00:00Z"}  # fmt: skip
