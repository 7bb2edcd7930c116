"""`alert-latency`: a reading that breaks a limit, sent to an agent, to the POST of its notification; one box, SQLite log, 1,000 readings/s beside it.

Each alarm is of a site of its own: those of one site would be one incident, and one notification.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec

from headwater_cloud.history import History
from tests.bench.cloud.live import Live
from tests.bench.load import CONNECT
from tests.bench.results import Result
from tests.support import until
from tests.system.box import Box

SECONDS = 60.0
_EVERY_S = 0.25
_BY_HAND = 200


def run(folder: Path) -> Iterator[Result]:
    """Load the agent for a minute, with an alarm four times a second."""
    heard = _Heard()
    here = Box(folder / "box")
    here.settings.write_text(
        f'{here.settings.read_text()}\n[[cloud.notify]]\nname = "hook"\nto = "webhook"\nurl = "{heard.url}"\nmost = 0\n'
    )
    try:
        here.up()
        live = Live(here.port)
        live.start()
        until(
            lambda: (here.data / "cloud.db").exists() and _windows(here), 60, "the first windows are through"
        )
        sent = _alarms(here.port)
        until(lambda: sent.keys() <= heard.at.keys(), 30, "the last notification is out")
        live.stop()
        by_hand = sorted(_by_hand(heard))
    finally:
        here.close()
        heard.close()
    delays = sorted(heard.at[stamp] - began for stamp, began in sent.items())
    yield Result(
        "alert-latency",
        _p(delays, 0.99),
        "s, p99 from a reading sent to its notification posted",
        _p(by_hand, 0.99),
        "p99 of a POST to the same receiver by hand",
        "agent, store and courier with full sync",
        {
            "p50 s": _p(delays, 0.5),
            "most s": delays[-1],
            "alerts": len(delays),
            "readings/s beside it": 1_000,
        },
    )


def _p(delays: list[float], part: float) -> float:
    return delays[min(len(delays) - 1, int(len(delays) * part))]


def _windows(here: Box) -> bool:
    history = History(here.data / "cloud.db")
    try:
        return bool(history.series("site-*"))
    finally:
        history.close()


def _alarms(port: int) -> dict[int, float]:
    """Send them; return when each was sent, by its stamp (us)."""
    sent: dict[int, float] = {}
    over = threading.Event()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(CONNECT % 888)
        assert client.recv(4)[0] == 0x20
        for number in range(1, int(SECONDS / _EVERY_S) + 1):
            stamp = time.time_ns() // 1_000_000 * 1000
            topic = b"hw/home-%d/stove/data/temperature" % number
            body = (
                len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + b'{"t":%d,"v":95}' % stamp
            )
            sent[stamp] = time.monotonic()
            client.sendall(b"\x32" + bytes([len(body)]) + body)
            client.recv(4)
            over.wait(_EVERY_S)
    return sent


class _Heard:
    """A webhook that notes when the notification of each alert came, by the time that the alert began."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        heard = self.at

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                moment = time.monotonic()
                said = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
                if said.get("begin"):
                    heard.setdefault(_us(said["begin"]), moment)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _us(text: str) -> int:
    """Microseconds; the body has milliseconds, so alarms are sent at whole ones."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) * 1000


def _by_hand(heard: _Heard) -> Iterator[float]:
    for _ in range(_BY_HAND):
        began = time.monotonic()
        made = http.client.HTTPConnection("127.0.0.1", heard.port)
        made.request("POST", "/", b"{}", {"Content-Type": "application/json"})
        made.getresponse().read()
        made.close()
        yield time.monotonic() - began
