"""A webhook's other end: a real HTTP server on the loopback that answers as a test says, and may hang."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hook:
    """What was posted, and how it answers."""

    def __init__(self) -> None:
        self.port = 0
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        """Statuses of the next answers; 204 once there are none left."""
        self.hangs = threading.Event()
        """Set: it does not answer."""
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=1"

    @property
    def said(self) -> list[dict[str, Any]]:
        """Each alert that was posted."""
        return [json.loads(body) for _, body in list(self.posts)]


@contextmanager
def hook() -> Iterator[Hook]:
    """Run one."""
    made = Hook()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.posts.append((dict(self.headers.items()), body))
            if made.hangs.is_set():
                made.over.wait(30)
                return
            self.send_response(made.answers.pop(0) if made.answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
