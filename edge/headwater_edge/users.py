"""Who may come in, by user and password, and what each may speak for; the same for every way in.

Passwords stand hashed in the users' file, which is read again when it changes, or as references to secrets in the
settings. Trying one takes tens of milliseconds, in a thread; what was found right or wrong is remembered as a hash under
a key of this process, so that a thousand devices that come back cost little. Who guesses waits (see `guesses`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headwater_edge import grants as rules
from headwater_edge import users_file
from headwater_edge.grants import Grant
from headwater_edge.guesses import Guesses, network
from headwater_edge.passwords import decoy, matches
from headwater_edge.passwords import read as read_hash
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.logs import get_logger

__all__ = ["Grant", "Users", "WrongPassword"]

log = get_logger()

_LOOK_S = 1.0
"""Between two looks at the file."""
_WRONG = 4_096
"""Wrong passwords that are remembered; whoever sends one of them again guesses nothing by it."""
_FREE, _FREE_BY_ADDRESS = 5, 20
"""Wrong guesses of one user's password from one address, and of all users' from it, before it has to wait."""


class WrongPassword(Refused):
    """Not let in. `wait_s`: seconds until the next try of this user from this address is looked at.

    `looked`: whether the password was looked at, or turned away because too many wrong ones came before it.
    """

    def __init__(self, message: str, *, wait_s: float, looked: bool, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s
        self.looked = looked


class Users:
    """All users. True if there are any: then nobody is let in without saying who they are, until the process ends."""

    def __init__(
        self,
        file: Path | None = None,
        passwords: Mapping[str, str] | None = None,
        grants: Mapping[str, Sequence[str]] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file, if there is one.

        Args:
            file: the users' file.
            passwords: of the users in the settings, in plain text.
            grants: by user, or identity of a certificate, from the settings; added to those of the file.

        Raises:
            SettingsError: a grant or the file is wrong, or both the file and the settings have a user.
        """
        self._file = file
        self._passwords = dict(passwords or {})
        self._grants = {name: tuple(found) for name, found in (grants or {}).items()}
        for found in self._grants.values():
            rules.check(found)
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._decoy = decoy()
        self._entries: dict[str, users_file.User] = {}
        self._made: dict[str, Grant] = {}
        self._right: dict[str, bytes] = {}
        """The mark of each user's right password, if it is known."""
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._guesses = Guesses(_FREE, monotonic)
        self._by_address = Guesses(_FREE_BY_ADDRESS, monotonic)
        self._trying: dict[bytes, asyncio.Future[None]] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False
        self.generation = 0
        """Grows with each change of the file."""
        self._seen = self._look()
        self._looked = monotonic()
        self._take(users_file.read(file) if file else {})

    def follow(self, passwords: Mapping[str, str], grants: Mapping[str, Sequence[str]]) -> None:
        """Take up other users and grants of the settings; whoever may no longer stay is let go, as with the file's.

        Raises:
            SettingsError: a grant is wrong, or both the file and the settings have a user; nothing was changed.
        """
        for found in grants.values():
            rules.check(found)
        before = self._passwords, self._grants
        self._passwords = dict(passwords)
        self._grants = {name: tuple(found) for name, found in grants.items()}
        try:
            self._take(self._entries)
        except SettingsError:
            self._passwords, self._grants = before
            raise

    def __bool__(self) -> bool:
        return self._closed

    def closed(self) -> bool:
        """Tell whether one must say who one is, as the file stands now."""
        self.refresh()
        return self._closed

    async def check(self, user: str, password: bytes, address: str = "") -> Grant | None:
        """Return what the user may speak for, or None if user or password are wrong, or guessed too often.

        Args:
            address: of who asks, without the port; wrong guesses are counted by it.
        """
        try:
            found = self.recall(user, password, address)
            if found is None:
                await self.try_out(user, password, address)
                found = self.recall(user, password, address)
        except WrongPassword:
            return None
        return found

    def recall(self, user: str, password: bytes, address: str = "") -> Grant | None:
        """Return at once what is known; None: nothing, and `try_out` finds it out.

        Raises:
            WrongPassword: it is wrong, or not looked at yet.
        """
        self.refresh()
        where = network(address)
        mark, known = self._mark(user, password), self._right.get(user)
        right = known is not None and hmac.compare_digest(known, mark)
        wait_s = self._guesses.wait_s((where, user))
        if not right:
            wait_s = max(wait_s, self._by_address.wait_s(where))
        if wait_s and mark not in self._wrong:  # right or wrong, it is not told yet
            raise WrongPassword(
                f"too many wrong passwords from {address} for {user!r}: the next is looked at in {wait_s:.0f} s",
                wait_s=wait_s,
                looked=False,
                hint="find the device that has a wrong password, or who guesses",
            )
        if known is not None and not right and mark not in self._wrong:
            self._note_wrong(mark, user, where)
        if mark in self._wrong:
            raise WrongPassword(
                f"wrong password, or no such user: {user!r}",
                wait_s=self._guesses.wait_s((where, user)),
                looked=True,
                hint="compare the device's user and password with `headwater-edge user list` and edge.users",
            )
        return self.grant(user) if right else None

    async def try_out(self, user: str, password: bytes, address: str = "") -> None:
        """Try a password, which takes a while, and remember what was found; the same one is tried once for all who ask."""
        mark = self._mark(user, password)
        trying = self._trying.get(mark)
        if trying is None:
            trying = self._trying[mark] = asyncio.ensure_future(self._try(mark, user, password, address))
            trying.add_done_callback(lambda _: self._trying.pop(mark, None))
        await asyncio.shield(trying)

    async def _try(self, mark: bytes, user: str, password: bytes, address: str) -> None:
        entry = self._entries.get(user)
        there = entry is not None and bool(entry.password)
        kept = read_hash(entry.password) if entry is not None and there else self._decoy
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "passwords")
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._thread, matches, password, kept) and there
        if self._entries.get(user) is not entry:
            return  # changed meanwhile: who asks again is told
        if right:
            self._right[user] = mark
        else:
            self._note_wrong(mark, user, network(address))

    def grant(self, name: str) -> Grant:
        """Return what a user, or the identity of a certificate, may speak for."""
        found = self._made.get(name)
        if found is not None:
            return found
        entry = self._entries.get(name)
        listed = [one for one in (entry.grants if entry else None, self._grants.get(name)) if one is not None]
        granted = Grant(
            name, [rule for one in listed for rule in one] if listed else None, self._standing(name)
        )
        if name in self._entries or name in self._passwords or name in self._grants:
            self._made[name] = granted  # of others, who come with a certificate, there may be any number
        return granted

    def stands(self, grant: Grant) -> bool:
        """Tell whether a user who was let in may stay: it is still there, with the same password."""
        return grant.standing == self._standing(grant.user) and not self.grant(grant.user).nothing

    def _standing(self, name: str) -> str:
        entry = self._entries.get(name)
        if entry is not None and entry.password:
            return entry.password
        given = self._passwords.get(name)
        return "" if given is None else f"settings {self._mark(name, given.encode()).hex()}"

    def refresh(self) -> None:
        """Read the file again if it has changed; looked at once a second at most. One that is wrong changes nothing."""
        now = self._monotonic()
        if self._file is None or now - self._looked < _LOOK_S:
            return
        self._looked = now
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            if seen is None:
                raise SettingsError(f"{self._file} is gone", hint="`headwater-edge user` writes it")
            self._take(users_file.read(self._file))
        except SettingsError as error:
            log.error("users are kept as they were", error=error)
            return
        log.info("users read again", users=len(self._entries) + len(self._passwords))

    def close(self) -> None:
        """Let go of the thread; what it is trying ends soon, and nobody hears of it."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat() if self._file else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None

    def _take(self, entries: dict[str, users_file.User]) -> None:
        both = sorted(entries.keys() & self._passwords.keys())
        if both:
            raise SettingsError(
                f"the user {both[0]!r} stands in {self._file} and in edge.users",
                hint=f"`headwater-edge user remove {both[0]}`, or take it out of the settings",
            )
        kept = {
            name: mark
            for name, mark in self._right.items()
            if name in entries and entries[name].password == self._entries[name].password
        }
        self._entries = entries
        self._right = kept | {name: self._mark(name, text.encode()) for name, text in self._passwords.items()}
        self._wrong.clear()
        self._made.clear()
        self._closed |= bool(self._passwords) or any(entry.password for entry in entries.values())
        self.generation += 1

    def _note_wrong(self, mark: bytes, user: str, where: str) -> None:
        self._wrong[mark] = None
        if len(self._wrong) > _WRONG:
            self._wrong.popitem(last=False)
        self._guesses.wrong((where, user))
        self._by_address.wrong(where)

    def _mark(self, user: str, password: bytes) -> bytes:
        name = user.encode()
        return hashlib.blake2b(
            len(name).to_bytes(4, "big") + name + password, key=self._key, digest_size=32
        ).digest()
