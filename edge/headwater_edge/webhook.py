"""A webhook: one alert as one HTTP POST of JSON, signed if there is a secret. Each runs in a thread of its own, with an end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

from headwater_edge.alert_routes import Letter
from headwater_edge.alert_settings import AlertSettings
from headwater_shared.errors import Refused, TryAgain
from headwater_shared.settings import duration

_NEVER = frozenset({400, 405, 410, 413, 415, 422})
"""Answers that mean this alert, whenever it comes."""


class Webhook:
    """Posts to one address.

    Every answer but 2xx is a failure, redirects too: the address is to be mended in the settings.
    """

    def __init__(self, settings: AlertSettings, secret: bytes, agent: str) -> None:
        self._url = urlsplit(settings.url)
        self._secret = secret
        self._agent = agent
        self._timeout_s = duration(settings.timeout) / 1e6

    async def send(self, letter: Letter) -> None:
        """Post it, and wait for the answer, never longer than the time-out.

        Raises:
            TryAgain: no answer, or one that may be another later.
            Refused: this one is not wanted.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        made = self._connection()

        def post() -> None:
            try:
                found: int | Exception = self._post(made, letter)
            except Exception as error:  # noqa: BLE001 - the task judges it
                found = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(partial(_settle, done, found))

        threading.Thread(target=post, name="webhook", daemon=True).start()
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await done
        except TimeoutError:
            raise TryAgain(f"{self._url.hostname} does not answer within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise TryAgain(f"{self._url.hostname}: {str(error) or type(error).__name__}") from None
        finally:
            if not done.done() or done.cancelled():
                _cut(made)  # else a server that sends byte by byte would hold the thread
        if status in _NEVER:
            raise Refused(f"{self._url.hostname} answers {status}", hint="see what it wants, and its log")
        if not 200 <= status < 300:
            raise TryAgain(f"{self._url.hostname} answers {status}", hint="check url of this [[edge.alert]]")

    def _connection(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, self._url.port, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(host, self._url.port, timeout=self._timeout_s)

    def _post(self, made: http.client.HTTPConnection, letter: Letter) -> int:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Headwater",
            "X-Headwater-Agent": self._agent.encode("ascii", "replace").decode(),
            "X-Headwater-Id": letter.key,
        }
        if self._secret:
            headers["X-Headwater-Signature"] = signature(self._secret, letter.body)
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            made.request("POST", path, letter.body, headers)
            return made.getresponse().status
        finally:
            made.close()


def signature(secret: bytes, body: bytes) -> str:
    """Return what proves who sent a body: `sha256=` and the HMAC-SHA256 of it in hex."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def _settle(done: asyncio.Future[int], found: int | Exception) -> None:
    if done.done():
        return
    if isinstance(found, int):
        done.set_result(found)
    else:
        done.set_exception(found)


def _cut(made: http.client.HTTPConnection) -> None:
    if made.sock is not None:
        with suppress(OSError):
            made.sock.shutdown(socket.SHUT_RDWR)
