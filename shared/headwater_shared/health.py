"""Metrics and health over HTTP on loopback: `/metrics` for Prometheus, `/health` and `/ready` for people and supervisors.

| path | answers |
| --- | --- |
| `/metrics` | the process's own registry in Prometheus' text format |
| `/health` | 200 and `{"status": "ok", ...}`, or 503 and `{"status": "failing", "reasons": [...], ...}` |
| `/ready` | 200 once the process does its work, 503 before that and while it fails |

A process may have pages of its own beside them (`Page`).
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from headwater_shared.errors import SettingsError, cannot_listen
from headwater_shared.logs import get_logger
from headwater_shared.settings import listen_address

log = get_logger()

Health = Callable[[], Mapping[str, Any]]
"""Called in a thread of the server. `reasons` lists what is wrong (none, or an empty list: healthy), `ready` is false
until the process does its work; all other keys are shown as they are."""


class Asked(NamedTuple):
    """A request for a page of the process's own."""

    method: str
    path: str
    """With its query, as it came."""
    headers: Mapping[str, str]
    """By name, in small letters."""
    body: bytes


class Answered(NamedTuple):
    """What a page answers."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


More = Callable[[bool], str]
"""Called in a thread of the server: more metrics than the registry's, as text; told whether in OpenMetrics, or in Prometheus' own format."""

Page = Callable[[Asked], Answered]
"""Called in a thread of the server, for every path that begins with the page's."""

_LONGEST = 64_000
"""Bytes of a body."""


class Pulse:
    """When the loop of a process last went round: the server's thread answers although the loop stands still, so it says that."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._at_s = monotonic()

    def beat(self) -> None:
        self._at_s = self._monotonic()

    @property
    def last_turn_s(self) -> float:
        """Seconds since the last beat."""
        return round(self._monotonic() - self._at_s, 1)


class HealthServer:
    """A running server: `port` is the one it got, `close` ends it and its thread."""

    def __init__(
        self,
        host: str,
        port: int,
        health: Health,
        registry: CollectorRegistry,
        pages: Mapping[str, Page],
        more: More,
    ) -> None:
        self._server = _Server((host, port), health, registry, pages, more)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(
    host: str,
    port: int,
    health: Health,
    registry: CollectorRegistry,
    pages: Mapping[str, Page] = MappingProxyType({}),
    more: More = lambda _: "",
) -> HealthServer:
    """Serve from now on; port 0 takes any free one. `pages` are by what their paths begin with, such as `/ack/`.

    Raises:
        SettingsError: the address is not loopback.
        PortInUse: another program listens there.
    """
    try:
        listen_address(host, port, users=False)
    except SettingsError:
        raise SettingsError(
            f"health and metrics on {host}:{port} would answer anyone",
            hint="they know no users: set health_host to 127.0.0.1, or leave it out",
        ) from None
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each: nobody asks for them
    try:
        return HealthServer(host, port, health, registry, pages, more)
    except OSError as error:
        raise cannot_listen(host, port, error) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that reads slowly does not hold up the end of the process

    def __init__(
        self,
        at: tuple[str, int],
        health: Health,
        registry: CollectorRegistry,
        pages: Mapping[str, Page],
        more: More,
    ) -> None:
        self.pages, self.more = pages, more
        self.address_family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
        self.health = health
        self.registry = registry
        super().__init__(at, _Answer)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in one line what went wrong with a request; that a client is gone, such as a supervisor that was killed while it asked, is no event."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("a request to the health server has no answer", error=error)


class _Answer(BaseHTTPRequestHandler):
    timeout = 5.0  # seconds that a client may be silent
    server: _Server

    def do_GET(self) -> None:
        """Answer one request; an unknown path says which there are."""
        path = self.path.partition("?")[0]
        if self._page():
            return
        if path == "/metrics":
            self._send_metrics()
        elif path in ("/health", "/ready"):
            self._send_health(path)
        else:
            self._send(404, "text/plain; charset=utf-8", b"/metrics, /health or /ready\n")

    def do_POST(self) -> None:
        """Answer one request of a page of the process's own; there is nothing else to post to."""
        if not self._page():
            self._send(404, "text/plain; charset=utf-8", b"nothing is taken here\n")

    def _page(self) -> bool:
        page = next((page for begin, page in self.server.pages.items() if self.path.startswith(begin)), None)
        if page is None:
            return False
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _LONGEST:
            self._send(413, "text/plain; charset=utf-8", b"too long\n")
            return True
        body = self.rfile.read(int(length))
        try:
            headers = {name.lower(): text for name, text in self.headers.items()}
            found = page(Asked(self.command, self.path, headers, body))
        except Exception as error:  # noqa: BLE001 (whatever it is, the answer is that the process fails)
            found = Answered(500, "text/plain; charset=utf-8", f"{type(error).__name__}\n".encode())
        self._send(found.status, found.content_type, found.body, found.headers)
        return True

    def _send_metrics(self) -> None:
        """Answer in the format that is asked for: exemplars stand in OpenMetrics only."""
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        openmetrics = "openmetrics" in content_type
        end = b"# EOF\n" if openmetrics else b""
        text = encode(self.server.registry)
        more = self.server.more(openmetrics).encode()
        self._send(200, content_type, text.removesuffix(end) + more + end)

    def _send_health(self, path: str) -> None:
        try:
            state = dict(self.server.health())
        except Exception as error:  # noqa: BLE001 (whatever it is, the answer is that the process fails)
            state = {"reasons": [f"{type(error).__name__}: {error}"], "ready": False}
        failing = bool(state.get("reasons"))
        good = not failing and (path == "/health" or bool(state.get("ready", True)))
        answer = {"status": "failing" if failing else "ok", **state}
        self._send(
            200 if good else 503, "application/json", msgspec.json.encode(answer, enc_hook=repr) + b"\n"
        )

    def _send(
        self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Say nothing: who scrapes every few seconds is no news."""
