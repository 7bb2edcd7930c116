"""The webhook of a demo: somebody's own server, to which Alertmanager posts what it tells; it is kept and told."""

from __future__ import annotations

from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Self

import msgspec

from headwater_appliance.ports import steady_port

_MOST = 10_000
_BODY = 4_000_000


class Told(msgspec.Struct):
    """One alert of a notification of Alertmanager's (version 4 of its webhook)."""

    status: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    receiver: str = ""
    """The path that it was posted to: which of the receivers it is."""

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    @property
    def is_ours(self) -> bool:
        """It is an alert of Headwater's; the others are Prometheus' own, which are about Headwater itself."""
        return self.labels.get("source") == "headwater"

    @property
    def subject(self) -> str:
        """What it is of, as in Headwater."""
        return self.labels.get("subject", "")


class _Notification(msgspec.Struct):
    alerts: list[Told] = []


class Hook:
    """Listens on the loopback in a thread of its own, from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self.port = steady_port()
        self.told: deque[Told] = deque(maxlen=_MOST)
        """All that came, the oldest first; a notification that names an alert again counts again."""
        self._seen = 0
        self._came = 0
        self._lock = Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        hook = self

        class Post(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                if length > _BODY:
                    self.send_error(413)
                    return
                try:
                    hook.take(self.rfile.read(length), self.path.strip("/"))
                except msgspec.DecodeError as error:
                    self.send_error(400, str(error)[:200])
                    return
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing: what came is told as the story goes on."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Post)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def take(self, body: bytes, receiver: str = "") -> None:
        """Take what was posted to a receiver.

        Raises:
            msgspec.DecodeError: it is no notification.
        """
        alerts = msgspec.json.decode(body, type=_Notification).alerts
        for one in alerts:
            one.receiver = receiver
        with self._lock:
            self.told += alerts
            self._came += len(alerts)

    def news(self) -> list[Told]:
        """Return what came since the last look."""
        with self._lock:
            new, self._seen = self._came - self._seen, self._came
            return list(self.told)[max(0, len(self.told) - new) :] if new else []
