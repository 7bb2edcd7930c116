"""A damaged file is set aside under a clear name, and a new one takes its place; a crash in between changes nothing.

    edge.db.part   ▶   edge.db.new   ▶   edge.db(-wal) ▶ edge.db.damaged-1(-wal)   ▶   edge.db.new ▶ edge.db
    is written         is whole          the damaged one steps aside                   the new one takes its place

While `edge.db.new` is there, the change is under way, and the next start brings it to its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from headwater_shared.crash import reached

_PART, _NEW, _DAMAGED, _SUSPECT = ".part", ".new", ".damaged-", ".suspect"


def set_aside(path: Path, make: Callable[[Path, str], None]) -> Path:
    """Have a new file made, and put it in the place of the damaged one; return what that one is called now.

    Args:
        make: writes the new file (its path, what the damaged one will be called).
    """
    part, aside = _beside(path, _PART), _free_name(path)
    for suffix in ("", "-wal", "-shm"):
        _beside(part, suffix).unlink(missing_ok=True)
    make(part, aside.name)
    _sync(part)
    reached("aside.made")
    part.replace(_beside(path, _NEW))
    _sync(path.parent)
    finish(path)
    return aside


def finish(path: Path) -> None:
    """Bring a change that was begun to its end."""
    new, aside = _beside(path, _NEW), _free_name(path)
    if not new.exists():
        return
    for suffix in ("-wal", "-shm", ""):  # the log first: without its file it would be taken for the new one's
        reached("aside.moving")
        one = _beside(path, suffix)
        if not one.exists():
            continue
        if suffix == "-shm":
            one.unlink()
        else:
            one.replace(_beside(aside, suffix))
    if _beside(aside, "-wal").exists() and not aside.exists():
        aside.touch()  # only the log was there: it keeps its name
    reached("aside.moved")
    new.replace(path)
    _sync(path.parent)
    _beside(path, _SUSPECT).unlink(missing_ok=True)


def all_aside(path: Path) -> list[Path]:
    """Return the files that were set aside and are still there, the oldest first."""
    found = path.parent.glob(f"{path.name}{_DAMAGED}*")
    return sorted((one for one in found if _number(path, one)), key=lambda one: _number(path, one))


def suspect(path: Path, why: str) -> None:
    """Note that a file was found damaged while it was in use: the next start sets it aside."""
    _beside(path, _SUSPECT).write_text(why)


def suspicion(path: Path) -> str:
    """Return what was noted, empty if nothing was."""
    try:
        return _beside(path, _SUSPECT).read_text() or "it was found damaged"
    except OSError:
        return ""


def _free_name(path: Path) -> Path:
    """Return the first name that no damaged file has; one whose log is there already is on its way to it."""
    number = 1
    while _beside(path, f"{_DAMAGED}{number}").exists():
        number += 1
    return _beside(path, f"{_DAMAGED}{number}")


def _number(path: Path, aside: Path) -> int:
    text = aside.name.removeprefix(path.name + _DAMAGED)
    return int(text) if text.isdecimal() else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
