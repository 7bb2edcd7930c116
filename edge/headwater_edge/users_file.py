"""The users' file: names, hashed passwords and what each may speak for, as JSON, 0600, written whole or not at all.

An entry without a password is for the holder of a certificate: its identity has grants, and no password lets anyone in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headwater_edge import grants, passwords
from headwater_shared import kept_file
from headwater_shared.errors import SettingsError

_VERSION = 1
_LONGEST_NAME = 256


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One user. `grants` None: the device of its own name; empty: nothing, it is locked out."""

    password: str = ""
    grants: tuple[str, ...] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    users: dict[str, User]


def read(path: Path) -> dict[str, User]:
    """Read the file; none is no users.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong.
    """
    found = kept_file.read(path, _File, _VERSION, writes="headwater-edge user")
    if found is None:
        return {}
    for name, user in found.users.items():
        _check(path, name, user)
    return found.users


def _check(path: Path, name: str, user: User) -> None:
    if not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
        raise SettingsError(f"{path}: {name[:80]!r} is no name of a user", hint="1 to 256 characters")
    try:
        grants.check(user.grants or ())
        if user.password:
            passwords.read(user.password)
    except (SettingsError, ValueError) as error:
        raise SettingsError(
            f"{path}: user {name!r}: {str(error).splitlines()[0]}", hint=getattr(error, "hint", "")
        ) from None


@contextmanager
def changed(path: Path) -> Iterator[dict[str, User]]:
    """Give the users to change; what they are at the end of the block is written. One at a time, others wait.

    Raises:
        SettingsError: as `read`; nothing is written then, nor if the block raises.
    """
    with kept_file.locked(path) as folder:
        users = dict(read(path))
        yield users
        for name, user in users.items():
            _check(path, name, user)
        kept_file.write(path, folder, _File(_VERSION, users), 0o600)
