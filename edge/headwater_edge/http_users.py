"""Who may post: user and password from the Authorization header, checked once a while and not at each request."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from headwater_edge.http_request import NotTaken
from headwater_edge.users import Users
from headwater_shared.errors import TryAgain

Allows = Callable[[str], bool]
"""Whether a user may send to a topic."""
Check = Callable[[str, str, str], Awaitable[Allows | None]]
"""(user, password, address) to what the user may do; None for a wrong password, or TryAgain if it is not to be checked now."""

_KNOWN_S = 60.0
"""So long a password that was right need not be checked again: a good hash is slow on purpose."""
_KNOWN = 10_000
_WRONG, _WRONG_S = 10, 60.0
"""So many wrong passwords for one user from one address in this time, and no further one is looked at."""
_LONGEST = 2_048


class Guest(NamedTuple):
    """Who a request comes from: an empty name where nobody needs one."""

    user: str
    allows: Allows


ANYONE = Guest("", lambda _topic: True)


def check_of(users: Users) -> Check:
    """Check against the agent's users; while there are none anyone may come in (on loopback)."""

    async def check(user: str, password: str, address: str) -> Allows | None:
        grant = await users.check(user, password.encode(), address)
        if grant is None:
            return None
        # What the user may do is looked up each time: it may have been changed, or taken away, since.
        return lambda topic: users.stands(grant) and users.grant(user).allows(topic.encode())

    return check


class Gate:
    """Remembers who came in of late by a keyed hash of the header, and who guesses."""

    def __init__(
        self, check: Check | None, monotonic: Callable[[], float], anyone: Callable[[], bool] = lambda: False
    ) -> None:
        """`anyone` tells whether nobody needs to say who they are yet: the first user may be added at any time."""
        self._check = check
        self._anyone = anyone
        self._monotonic = monotonic
        self._secret = secrets.token_bytes(16)
        self._known: dict[bytes, tuple[float, Guest]] = {}
        self._asked: dict[bytes, asyncio.Task[Guest]] = {}
        self._wrong: dict[tuple[str, str], tuple[float, int]] = {}

    def known(self, authorization: bytes) -> Guest | None:
        """Return who this is, if that is clear at once."""
        if self._check is None or self._anyone():
            return ANYONE
        until, guest = self._known.get(self._hash(authorization), (0.0, None))
        return guest if self._monotonic() < until else None

    async def ask(self, authorization: bytes, address: str) -> Guest:
        """Find out who this is; the same header from many connections at once is checked once.

        Raises:
            NotTaken: 401 or 429.
        """
        key = self._hash(authorization + address.encode())
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(self._ask(authorization, address))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    def _answered(self, key: bytes, task: asyncio.Task[Guest]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone: then nobody else takes note of it

    async def _ask(self, authorization: bytes, address: str) -> Guest:
        user, password = credentials(authorization)
        now = self._monotonic()
        begin, count = self._wrong.get((address, user), (now, 0))
        if now - begin >= _WRONG_S:
            begin, count = now, 0
        if count >= _WRONG:
            raise _later(f"{count} wrong passwords", 1 + int(begin + _WRONG_S - now))
        assert self._check is not None
        try:
            allows = await self._check(user, password, address)
        except TryAgain as error:
            raise _later(error.message, 5) from None
        if allows is None:
            if len(self._wrong) >= _KNOWN:
                self._wrong.clear()
            self._wrong[address, user] = (begin, count + 1)
            raise NotTaken(
                401, "password", f"wrong password, or no such user: {user[:100]!r}", hint="compare with the agent's users"
            )  # fmt: skip
        self._wrong.pop((address, user), None)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        guest = Guest(user, allows)
        self._known[self._hash(authorization)] = (now + _KNOWN_S, guest)
        return guest

    def _hash(self, authorization: bytes) -> bytes:
        return hashlib.blake2b(authorization, digest_size=16, key=self._secret).digest()


def credentials(authorization: bytes) -> tuple[str, str]:
    """Return user and password of a Basic header, or of a Bearer token, which holds the same.

    Raises:
        NotTaken: 401, if there are none.
    """
    kind, _, coded = authorization.partition(b" ")
    if kind.lower() in {b"basic", b"bearer"} and len(coded) <= _LONGEST:
        plain = coded.strip().translate(bytes.maketrans(b"-_", b"+/"))  # a token may be of the other alphabet
        try:
            decoded = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        user, colon, password = decoded.partition(":")
        if colon and user:
            return user, password
    raise NotTaken(
        401, "no-user", "user and password are missing", hint="send them: curl -u USER:PASSWORD, or Authorization: Bearer BASE64, of USER:PASSWORD"
    )  # fmt: skip


def _later(why: str, seconds: int) -> NotTaken:
    return NotTaken(
        429, "too-many-passwords", f"not looked at now: {why}", hint="try again later", retry_s=seconds
    )
