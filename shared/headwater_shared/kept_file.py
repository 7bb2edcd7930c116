"""A small JSON file of several writers, whole or not at all: the users, the registry of devices.

It holds `version` and one table by name. Who writes it holds a lock on its folder, so one waits for the other; who reads it
needs none, for it is replaced, never written over.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headwater_shared.errors import SettingsError

T = TypeVar("T")


def read(path: Path, kind: type[T], version: int, *, writes: str) -> T | None:
    """Read the file; None if it is not there.

    Args:
        kind: a struct of `version` and the table.
        writes: which command writes it, for a person who wrote it by hand.

    Raises:
        SettingsError: it cannot be read, or is of a newer version.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}", hint="check its path and its owner"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}", hint=f"`{writes}` writes it") from None
    known = getattr(found, "version", version)
    if known > version:
        raise SettingsError(
            f"{path} is of a newer version (format {known}, known here: {version})",
            hint="install that version again",
        )
    return found


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Keep other writers out; gives the folder that `write` needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(folder)


def write(path: Path, folder: int, what: Any, mode: int) -> None:
    """Replace the file; it has its mode before there is anything in it."""
    half = path.with_name(path.name + ".new")
    half.unlink(missing_ok=True)
    half.touch(mode, exist_ok=False)
    if os.geteuid() == 0:  # the agent, which has the folder, must be able to read what root writes
        owner = os.fstat(folder)
        os.chown(half, owner.st_uid, owner.st_gid)
    with half.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(what), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    os.fsync(folder)
