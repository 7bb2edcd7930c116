"""A route that is a webhook: one message as one HTTP POST of JSON, signed if there is a secret. docs/notify.md has its fields."""

from __future__ import annotations

import http.client
import threading
from datetime import tzinfo

import msgspec

from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_settings import Rules
from headwater_cloud.notify_words import Ack, Words, words_of
from headwater_cloud.send_file import fields
from headwater_cloud.sending import Failed, Message
from headwater_shared.errors import Refused
from headwater_shared.webhook import NEVER, Address, cut


class Webhook:
    """Posts to one address. Every answer but 2xx is a failure, redirects too: the address is to be mended in the settings."""

    def __init__(self, rules: Rules, zones: Zones, ack: Ack) -> None:
        self._address = Address(rules.urls[0], rules.secret, rules.timeout_s)
        self._zone: tzinfo | None = rules.zone
        self._zones, self._ack = zones, ack

    def send(self, message: Message) -> None:
        """Post it, and wait for the answer, never longer than the time-out.

        Raises:
            Failed: no answer, or one that may be another later.
            Refused: this one is not wanted.
        """
        address, made = self._address, self._address.connection()
        body = body_of(message, words_of(message, self._zones, self._zone, self._ack))
        end = threading.Timer(
            address.timeout_s, cut, (made,)
        )  # a server that sends byte by byte would hold the thread
        end.start()
        try:
            made.connect()
        except OSError as error:
            end.cancel()
            raise Failed(_said(address, error), hint=_HINT) from None
        try:
            status, after_s = address.post(made, message.id, body)
        except (OSError, http.client.HTTPException) as error:  # perhaps it has the body
            raise Failed(_said(address, error), hint=_HINT, certain=False) from None
        finally:
            end.cancel()
        if status in NEVER:
            raise Refused(f"{address.host} answers {status}", hint="see what it wants, and its log")
        if not 200 <= status < 300:
            raise Failed(f"{address.host} answers {status}", hint=_HINT, after_s=after_s)


_HINT = "check url of this [[cloud.notify]], and the log of the other side"


def _said(address: Address, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"{address.host} does not answer within {address.timeout_s:g} s"
    return f"{address.host}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"


def body_of(message: Message, words: Words) -> bytes:
    """The JSON of a message, version 1: of one notification its fields, of a digest those of all under `notifications`."""
    head: dict[str, object] = {
        "version": 1,
        "id": message.id,
        "title": words.title,
        "message": "\n".join(words.lines),
    }
    if words.ack:
        head["ack"] = words.ack
    if len(message.some) == 1:
        return msgspec.json.encode({**head, "digest": False, **fields(message.some[0])})
    said = [fields(one) for one in message.some]
    repeat = any(one.possible_repeat for one in message.some)
    return msgspec.json.encode({**head, "digest": True, "possible_repeat": repeat, "notifications": said})
