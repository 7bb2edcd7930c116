"""The link of a device that has no MQTT: it posts each message under an idempotency key, until it is answered 200."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import deque
from http import HTTPStatus
from typing import cast
from urllib.parse import quote

import httptools

from headwater_firmware_sim.flash import Kept
from headwater_firmware_sim.link import Link
from headwater_firmware_sim.packets import Ack
from headwater_firmware_sim.plan import Plan
from headwater_shared.errors import SettingsError

_NOT_TAKEN = 0x80
_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Besides all from 500 on: nothing was taken, and the same may be taken later."""
_SILENCE_S = 120.0
"""How long an answer may take, in a disk-full hour even."""


class HttpLink(Link):
    """One device; requests are sent ahead as far as `in_flight` lets them, and answered in order."""

    RUN = ""
    """Of which run the keys are: of another run's readings, with the same numbers, they are no repeats."""

    @property
    def _login(self) -> bytes:
        server = self._server
        if not server.user:
            return b""
        return b"Authorization: Basic " + b64encode(f"{server.user}:{server.password}".encode()) + b"\r\n"

    def check_alive(self, now: float) -> None:
        """Give a connection up on which no answer came for too long."""
        waited = now - max(self._wrote, self._heard)
        if self._ready and self._transport is not None and self._asked and waited > _SILENCE_S:
            self._transport.abort()

    def hang_up(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Post what is kept once more, under the keys that it had; after a reboot under new ones."""
        self._transport = cast("asyncio.Transport", transport)
        self._answers = httptools.HttpResponseParser(self)
        self._asked: deque[Kept] = deque()
        self._wrote = self._heard = asyncio.get_running_loop().time()
        again = self._flash.renew() if self._clean else self._flash.kept()
        self._waiting.extend((kept, not self._clean) for kept in again)
        self._clean = False
        self._ready = True
        self._tally.connected += 1
        self._tally.connections += 1
        self._wake(self)

    def data_received(self, data: bytes) -> None:
        """Take in answers."""
        self._heard = asyncio.get_running_loop().time()
        try:
            self._answers.feed_data(data)
        except httptools.HttpParserError:
            self._drop()
        if self._ready:
            self._wake(self)

    def on_message_complete(self) -> None:
        """One answer is there, to the oldest request without one."""
        if not self._ready or not self._asked:
            return
        status = self._answers.get_status_code()
        if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._drop()  # all that has no answer is posted again, after a wait
            return
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            where = f"{self._server.host}:{self._server.port}"
            self._refused = SettingsError(
                f"{where} refused the device {self._name} with {status}",
                hint="set --user and --password as the server wants them",
            )
            self._drop()
            return
        kept = self._asked.popleft()
        self._acknowledged(Ack(kept.packet_id, 0 if status == HTTPStatus.OK else _NOT_TAKEN))
        if not self._answers.should_keep_alive():
            self._drop()

    def _written(self, kept: Kept, *, dup: bool) -> bytes:
        self._asked.append(kept)
        key = f"{self.RUN}-{self._name}-{kept.message.number}"
        head = (
            f"POST /{quote(kept.topic)} HTTP/1.1\r\nHost: {self._server.host}\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(kept.payload)}\r\n"
        )
        return head.encode() + self._login + b"\r\n" + kept.payload

    def _drop(self) -> None:
        """End the connection; what has no answer stays in the flash."""
        self._ready, was_ready = False, self._ready
        self._tally.connected -= was_ready
        if self._transport is not None:
            self._transport.abort()


def link_of(plan: Plan) -> type[HttpLink]:
    """Make the kind of link of one run."""

    class OfThisRun(HttpLink):
        RUN = f"{plan.origin_us:x}-{plan.seed}"

    return OfThisRun
