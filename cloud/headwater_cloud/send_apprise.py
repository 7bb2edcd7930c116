"""A route that is any address that Apprise knows: mail, Slack, PagerDuty, Telegram and a hundred more.

Apprise says in its log why something was not delivered, and True or False beside it. So its log is read, in the thread that sends, to sort
errors and to tell people; it goes nowhere else, for addresses hold secrets.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from typing import Any
from urllib.parse import unquote, urlsplit

from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_settings import Rules
from headwater_cloud.notify_words import Ack, words_of
from headwater_cloud.sending import Failed, Message, RefusedBySome
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.extras import load as load_extra
from headwater_shared.webhook import NEVER

_NOT_REACHED = re.compile(
    r"\[Errno -?\d+\] (Connection refused|Name or service not known|No route to host|Network is unreachable|No address associated"
    r"|Temporary failure in name resolution)|Failed to (resolve|establish a new connection)",
    re.IGNORECASE,
)
_STATUS = re.compile(r"error=(\d{3})\b")
_SMTP = re.compile(r"\((\d{3}), b['\"]")
_LONGEST = 300
_APART_S = 1.0
"""Seconds between two messages to one service; Apprise's own 5.5 are for those who know of no `most`."""


class Services:
    """The addresses of one route."""

    def __init__(self, rules: Rules, zones: Zones, ack: Ack) -> None:
        self._services = [_service(f"cloud.notify {rules.name!r}", url) for url in rules.urls]
        self._zone: tzinfo | None = rules.zone
        self._zones, self._ack = zones, ack
        self._delivered: tuple[str, set[int]] = ("", set())
        """Of the message that was tried last, which addresses have it."""

    def send(self, message: Message) -> None:
        """Send to every address that does not have it yet.

        Raises:
            Failed: one does not take it now.
            Refused: every one that has it not will never take it.
        """
        words = words_of(message, self._zones, self._zone, self._ack)
        if self._delivered[0] != message.id:
            self._delivered = message.id, set()
        done, failures = self._delivered[1], []
        for number, service in enumerate(self._services):
            if number in done:
                continue
            with _listening() as said:
                good = service.notify(
                    title=words.title, body="\n".join(words.lines), notify_type=words.kind, body_format="text"
                )
            if good:
                done.add(number)
            else:
                failures.append(failure(service.url(privacy=False), str(service.service_name), said))
        if not failures:
            self._delivered = "", set()
            return
        again = [one for one in failures if isinstance(one, Failed)]
        if not again:
            first = failures[0]
            raise RefusedBySome(first.message, hint=first.hint) if done else first
        raise Failed(
            again[0].message, hint=again[0].hint, certain=not done and all(one.certain for one in again)
        )


def check(where: str, urls: Sequence[str]) -> None:
    """See that Apprise knows some addresses.

    Raises:
        SettingsError: it does not know one.
        PartMissing: it is not installed.
    """
    for url in urls:
        _service(where, url)


def failure(url: str, name: str, said: Sequence[str]) -> Failed | Refused:
    """Sort why something was not delivered, by what Apprise wrote in its log.

    The other side answered with a status: it was not delivered, and never will be if that status is about the body. No connection was
    made: it was not delivered. All else is not known: perhaps it was.
    """
    text = "; ".join(said)
    why = scrubbed(f"{name}: " + (" ".join(dict.fromkeys(said)) or "it says nothing"), url)[:_LONGEST]
    hint = "check url of this [[cloud.notify]]; `headwater notify test` tries it"
    found = _STATUS.search(text)
    if found is not None:
        status = int(found[1])
        return Refused(why, hint=hint) if status in NEVER else Failed(why, hint=hint)
    mail = _SMTP.search(text)
    if mail is not None:  # 535: wrong password, which is mended without losing anything
        return Refused(why, hint=hint) if 550 <= int(mail[1]) <= 554 else Failed(why, hint=hint)
    return Failed(why, hint=hint, certain=_NOT_REACHED.search(text) is not None)


def scrubbed(text: str, url: str) -> str:
    """Take out of a text what may be secret in an address: user, password, path, and the values of its query."""
    parts = urlsplit(url)
    pieces = [parts.username, parts.password, *parts.path.split("/")]
    pieces += [piece.partition("=")[2] for piece in parts.query.split("&")]
    words = {word for piece in pieces if piece for word in (piece, unquote(piece)) if len(word) >= 4}
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "***")
    return text


def _service(where: str, url: str) -> Any:
    apprise = load_extra("apprise", "cloud")
    _log().setLevel(logging.DEBUG)
    _log().propagate = False
    asset = apprise.AppriseAsset(
        app_id="Headwater", app_desc="Headwater", app_url="", async_mode=False, secure_logging=True
    )
    with _listening(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it loads all its services, and some of them what Python is to lose
        found = apprise.Apprise.instantiate(url, asset=asset)
    if found is None:
        scheme = url.partition("://")[0] if "://" in url else ""
        known = bool(scheme) and scheme.lower() in {
            name
            for one in apprise.Apprise().details()["schemas"]
            for name in (one["protocols"] or ()) + (one["secure_protocols"] or ())
        }
        raise SettingsError(
            f"{where}: url is none of {scheme}:// as Apprise wants it"
            if known
            else f"{where}: Apprise knows no address that begins with {scheme + '://' if scheme else 'this'}",
            hint="its list of addresses: https://appriseit.com/services/ ; docs/notify.md has those of mail, Slack, PagerDuty and Telegram",
        )
    found.request_rate_per_sec = min(found.request_rate_per_sec, _APART_S)
    return found


def _log() -> logging.Logger:
    return logging.getLogger("apprise")


class _Listener(logging.Handler):
    """Keeps what one thread logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.get_ident()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self._thread and (record.levelno >= logging.WARNING or "xception" in text):
            self.said.append(text.strip())


@contextmanager
def _listening() -> Iterator[list[str]]:
    listener = _Listener()
    _log().addHandler(listener)
    try:
        yield listener.said
    finally:
        _log().removeHandler(listener)
