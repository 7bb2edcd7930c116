"""The users' file: names, hashed passwords and what each may speak for, as JSON, 0600, written whole or not at all.

An entry without a password is for the holder of a certificate: its identity has grants, and no password lets anyone in.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headwater_edge import grants, passwords
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
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}", hint="check its path and its owner"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}", hint="`headwater-edge user` writes it") from None
    if found.version != _VERSION:
        raise SettingsError(
            f"{path} is of a newer version (format {found.version}, known here: {_VERSION})",
            hint="install that version again",
        )
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
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        users = dict(read(path))
        yield users
        for name, user in users.items():
            _check(path, name, user)
        half = path.with_name(path.name + ".new")
        body = msgspec.json.format(msgspec.json.encode(_File(_VERSION, users)), indent=1) + b"\n"
        half.unlink(missing_ok=True)
        half.touch(0o600, exist_ok=False)  # before there is anything in it
        if os.geteuid() == 0:  # the agent, which has the folder, must be able to read what root writes
            owner = os.fstat(folder)
            os.chown(half, owner.st_uid, owner.st_gid)
        with half.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
        os.fsync(folder)
    finally:
        os.close(folder)
