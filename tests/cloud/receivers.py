"""Receivers of notifications that are really there: an SMTP server and a webhook, each in a thread, on a free port."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec


class Posted(NamedTuple):
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body, type=dict[str, Any])


class Hook:
    """A webhook. `answer` is what it answers with: a status, and headers; `refuses` are words of which it refuses whatever holds them, whole;
    `began` is when it was started, as an Alertmanager says it.
    """

    def __init__(self, port: int) -> None:
        self.got: list[Posted] = []
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.refuses = b""
        self.began = ""
        hook = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                said = b""
                if hook.began and self.path.split("?")[0].endswith("/api/v2/status"):
                    said = msgspec.json.encode({"uptime": hook.began})
                self.send_response(200 if said else 404)
                self.send_header("Content-Length", f"{len(said)}")
                self.end_headers()
                self.wfile.write(said)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = hook.answer if not hook.refuses or hook.refuses not in body else (422, {})
                if status < 300:
                    hook.got.append(Posted(self.path, dict(self.headers), body))
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?from=headwater"


@contextmanager
def webhook(port: int = 0) -> Iterator[Hook]:
    """A webhook that is there for a while; a port that was free a moment ago may be asked for."""
    hook = Hook(port)
    with _serving(hook._server):
        yield hook


class Mailbox:
    """What a mail server took. `answer_to_rcpt` is what it says of a recipient."""

    def __init__(self, port: int) -> None:
        self.got: list[EmailMessage] = []
        self.answer_to_rcpt = "250 ok"
        box = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                _talk(box, self.rfile.readline, lambda line: self.wfile.write(line.encode() + b"\r\n"))

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Session)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = (
            f"mailto://127.0.0.1:{self.port}?mode=insecure&from=headwater@example.org&to=duty@example.org"
        )

    def texts(self) -> list[tuple[str, str]]:
        """Subject and text of each mail."""
        found = []
        for mail in self.got:
            body = mail.get_body(("plain",))
            assert body is not None
            found.append((str(mail["Subject"]), body.get_content()))
        return found


@contextmanager
def mail_server(port: int = 0) -> Iterator[Mailbox]:
    """A mail server that is there for a while."""
    box = Mailbox(port)
    with _serving(box._server):
        yield box


def _talk(box: Mailbox, read: Callable[[], bytes], write: Callable[[str], object]) -> None:
    write("220 test")
    while line := read():
        word = line.decode().strip().upper()
        if word.startswith("QUIT"):
            write("221 bye")
            return
        if word.startswith("DATA"):
            write("354 go on")
            lines: list[bytes] = []
            while (line := read()) not in {b".\r\n", b""}:
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            mail = message_from_bytes(b"".join(lines), policy=policy.default)
            assert isinstance(mail, EmailMessage)
            box.got.append(mail)
            write("250 taken")
        elif word.startswith("RCPT"):
            write(box.answer_to_rcpt)
        else:
            write("250 ok")


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
