"""A webhook: one alert as one HTTP POST of JSON, signed if there is a secret. Each runs in a thread of its own, with an end."""

from __future__ import annotations

import asyncio
import http.client
import threading
from contextlib import suppress
from functools import partial

from headwater_edge.alert_routes import Letter
from headwater_edge.alert_settings import AlertSettings
from headwater_shared.errors import Refused, TryAgain
from headwater_shared.settings import duration
from headwater_shared.webhook import NEVER, Address, cut


class Webhook:
    """Posts to one address.

    Every answer but 2xx is a failure, redirects too: the address is to be mended in the settings.
    """

    def __init__(self, settings: AlertSettings, secret: bytes, agent: str) -> None:
        self._address = Address(settings.url, secret, duration(settings.timeout) / 1e6)
        self._agent = agent.encode("ascii", "replace").decode()

    async def send(self, letter: Letter) -> None:
        """Post it, and wait for the answer, never longer than the time-out.

        Raises:
            TryAgain: no answer, or one that may be another later.
            Refused: this one is not wanted.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        address, made = self._address, self._address.connection()

        def post() -> None:
            try:
                found: int | Exception = address.post(
                    made, letter.key, letter.body, **{"X-Headwater-Agent": self._agent}
                ).status
            except Exception as error:  # noqa: BLE001 - the task judges it
                found = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(partial(_settle, done, found))

        threading.Thread(target=post, name="webhook", daemon=True).start()
        try:
            async with asyncio.timeout(address.timeout_s):
                status = await done
        except TimeoutError:
            raise TryAgain(f"{address.host} does not answer within {address.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise TryAgain(f"{address.host}: {str(error) or type(error).__name__}") from None
        finally:
            if not done.done() or done.cancelled():
                cut(made)  # else a server that sends byte by byte would hold the thread
        if status in NEVER:
            raise Refused(f"{address.host} answers {status}", hint="see what it wants, and its log")
        if not 200 <= status < 300:
            raise TryAgain(f"{address.host} answers {status}", hint="check url of this [[edge.alert]]")


def _settle(done: asyncio.Future[int], found: int | Exception) -> None:
    if done.done():
        return
    if isinstance(found, int):
        done.set_result(found)
    else:
        done.set_exception(found)
