"""The stand-in of InfluxDB 2 as its set-up leaves it: one bucket, a token that may do all, and what a job makes beside: mappings, authorizations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any

import msgspec

from tests.influx_v2 import Store
from tests.influx_v2_http import ORG_ID, Handler, Refusal


class _Tokens(Handler):
    """The stand-in with mappings of databases, and authorizations, as InfluxDB 2 keeps them."""

    def _route(self, path: str, words: dict[str, str], body: bytes) -> None:
        kept = self.store
        assert isinstance(kept, SetUp)
        if path == "/api/v2/dbrps" and self.command == "GET":
            self._known()
            found = [one for one in kept.mapped if one["database"] == words["db"]]
            self._json(200, {"content": found})
        elif path == "/api/v2/dbrps":
            self._known()
            made = {"id": f"{len(kept.mapped) + 1:016x}", **msgspec.json.decode(body)}
            if made["bucketID"] not in {one.id for one in kept.buckets.values()} or made["orgID"] != ORG_ID:
                raise Refusal(404, "bucket not found")
            kept.mapped.append(made)
            self._json(201, made)
        elif path == "/api/v2/authorizations" and self.command == "POST":
            self._known()
            made = {"id": f"{len(kept.tokens) + 1:016x}", "token": f"a-token-{len(kept.tokens)}==", **msgspec.json.decode(body)}  # fmt: skip
            kept.tokens.append(made)
            self._json(201, made)
        else:
            super()._route(path, words, body)

    def _known(self) -> None:
        kept = self.store
        assert isinstance(kept, SetUp)
        if self.headers.get("Authorization") not in {f"Token {one['token']}" for one in kept.tokens}:
            super()._known()


class SetUp(Store):
    """What it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.mapped: list[dict[str, Any]] = []
        self.tokens: list[dict[str, Any]] = []


@contextmanager
def set_up() -> Iterator[SetUp]:
    """Let one listen for the time of the block."""
    made = SetUp()
    made.bucket("headwater_found")

    class Mine(_Tokens):
        store = made

    server = ThreadingHTTPServer(("127.0.0.1", made.port), Mine)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
