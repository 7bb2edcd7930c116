"""Links that acknowledge: a token that names a notification, signed with a key of this machine, good for a while.

It names no secret and needs no table to be checked. That it is used once is noted in the courier's file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from pathlib import Path
from typing import NamedTuple

from headwater_cloud.outputs import Notification
from headwater_shared import key_file
from headwater_shared.clock import Clock
from headwater_shared.errors import SettingsError

PATH = "/ack/"
_VERSION = 1
_HEAD = struct.Struct(">BI")
"""Version, and the second after which it is no good."""
_MAC = 16
GOOD_S = 7 * 86_400


class Opened(NamedTuple):
    """What a token says; `wrong`: in words for a person, why it is no good."""

    notification: str
    until_us: int
    wrong: str = ""


class AckLinks:
    """Makes links, and reads their tokens.

    Args:
        data: the data folder, beside which the key is.
        url: where people's browsers reach this process; "" if they do not: there are no links then.

    Raises:
        SettingsError: the key cannot be had, or the address is none.
    """

    def __init__(self, data: Path, url: str, clock: Clock) -> None:
        self._clock, self._url, self._key = clock, url.rstrip("/"), b""
        if not url:
            return
        if not url.startswith(("http://", "https://")):
            raise SettingsError(
                f"cloud.public_url = {url!r} is none", hint='write "https://headwater.example.org"'
            )
        path = key_file.beside(data, "notify.key")
        try:
            key_file.make(path)
            self._key, wrong = key_file.read(path)
        except OSError as error:
            wrong = f"the key {path} cannot be had: {error.strerror or error}"
        if wrong:
            raise SettingsError(
                f"no link can be signed: {wrong}",
                hint="let the cloud side make the file, readable by nobody else",
            )

    def link(self, one: Notification) -> str:
        """Return the link that acknowledges what a notification is of; "" where there are none."""
        if not self._key:
            return ""
        until_s = self._clock.now().wall_us // 1_000_000 + GOOD_S
        body = _HEAD.pack(_VERSION, until_s) + one.id.encode()
        return f"{self._url}{PATH}{base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b'=').decode()}"

    def read(self, token: str) -> Opened:
        """Read a token."""
        try:
            whole = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            whole = b""
        mac, body = whole[:_MAC], whole[_MAC:]
        if not self._key or len(body) < _HEAD.size or not hmac.compare_digest(mac, self._mac(body)):
            return Opened(
                "", 0, "This link is not one of ours, or is not whole: open it from the message again."
            )
        version, until_s = _HEAD.unpack_from(body)
        if version != _VERSION:
            return Opened("", 0, "This link is of another version of Headwater.")
        found = Opened(body[_HEAD.size :].decode(), until_s * 1_000_000)
        if until_s < self._clock.now().wall_us // 1_000_000:
            return found._replace(wrong="This link is too old. `headwater alerts ack` acknowledges as well.")
        return found

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC]
