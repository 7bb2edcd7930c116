"""Settings that change under a running process: what differs, what of it is taken up at once, and what was said of it.

Each process writes the settings that it runs with into a file of the data folder, so that others can say what a reload would
change. They hold references to secrets, never the secrets.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from headwater_shared.errors import HeadwaterError
from headwater_shared.logs import get_logger

log = get_logger()

Key = tuple[str | int, ...]
S = TypeVar("S", bound=msgspec.Struct)

COMMON_LIVE = frozenset({"log", "log_level"})
"""Of [common]: what a running process takes up."""
SAID = "{part}.settings.json"
"""In the data folder: what a part runs with."""


class Wish:
    """That the settings be read again: SIGHUP, from before they are read for the first time on, so that none is lost.

    The SIGHUP of a terminal that is closed ends the process as SIGTERM does.
    """

    def __init__(self) -> None:
        self.asked = False
        self._had_terminal = has_terminal()
        self.wake: Callable[[], None] = lambda: None
        """Lets a loop that rests look about; called by the signal's handler."""
        signal.signal(signal.SIGHUP, lambda *_: self.ask())

    def ask(self) -> None:
        if self.is_end():
            os.kill(os.getpid(), signal.SIGTERM)
        self.asked = True
        self.wake()

    def is_end(self) -> bool:
        """Tell whether SIGHUP means that the terminal is gone."""
        return self._had_terminal and not has_terminal()


def has_terminal() -> bool:
    """Tell whether a person's terminal is there."""
    try:
        return os.isatty(0)
    except OSError:
        return False


class Difference(NamedTuple):
    """One key that has another value; `live`: a reload takes it up, else the process must start again."""

    key: str
    before: Any
    after: Any
    live: bool


class Running(msgspec.Struct, frozen=True):
    """What a process runs with, and what its last reload came to."""

    pid: int
    settings: dict[str, dict[str, Any]]
    """By table."""
    reload: dict[str, Any] = {}
    reloads: int = 0
    """How often it was answered to SIGHUP since its start."""


def leaves(value: Any, key: Key = ()) -> list[tuple[Key, Any]]:
    """Return every value of a struct or table with its key; a list of plain values is one."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, dict) and value:
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*key, name))]
    if isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        return [leaf for at, inner in enumerate(value) for leaf in leaves(inner, (*key, at))]
    return [(key, list(value) if isinstance(value, tuple) else value)]


def dotted(section: str, key: Sequence[str | int]) -> str:
    """Write a key as a person names it, such as `edge.limit[0].above`."""
    return section + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)


def differences(section: str, before: Any, after: Any, live: Collection[str]) -> list[Difference]:
    """Compare two structs, or tables, key by key; an entry of a list that only one side has is one difference, with what it sets."""
    old, new = _named(leaves(before)), _named(leaves(after))
    one_sided = {_entry(key) for key in old.keys() ^ new.keys()}
    old, new = _folded(old, one_sided - _entries(new)), _folded(new, one_sided - _entries(old))
    return [
        Difference(dotted(section, key), old.get(key), new.get(key), key[0] in live)
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _named(found: Sequence[tuple[Key, Any]]) -> dict[Key, Any]:
    """Without what is not set: an empty list is no value beside one that has tables."""
    return {key: value for key, value in found if key and value not in (None, (), [], {})}


def _entry(key: Key) -> Key:
    """Return the entry of a list that a key is in; all of the key if it is in none."""
    last = max((at for at, part in enumerate(key) if isinstance(part, int)), default=len(key) - 1)
    return key[: last + 1]


def _entries(found: Mapping[Key, Any]) -> set[Key]:
    return {_entry(key) for key in found}


def _folded(found: Mapping[Key, Any], whole: Collection[Key]) -> dict[Key, Any]:
    out: dict[Key, Any] = {}
    for key, value in found.items():
        at = _entry(key)
        if at in whole and at != key:
            if value != "":
                out.setdefault(at, {})[dotted("", key[len(at) :]).removeprefix(".")] = value
        else:
            out[key] = value
    return out


def taken_up(before: S, after: S, live: Collection[str]) -> S:
    """Return what a process runs with after a reload: what cannot change under it is as before."""
    names = [name for name in after.__struct_fields__ if name in live]
    return msgspec.structs.replace(before, **{name: getattr(after, name) for name in names})


def said(found: Sequence[Difference]) -> dict[str, Any]:
    """Say what a reload that was taken up came to."""
    return {
        "ok": True,
        "at": _now(),
        "changed": [one.key for one in found if one.live],
        "needs_restart": [one.key for one in found if not one.live],
    }


def failed(error: HeadwaterError) -> dict[str, Any]:
    """Say that a reload changed nothing, and why."""
    log.error("the settings are kept as they were: the new ones cannot be taken up", error=error)
    return {"ok": False, "at": _now(), "error": error.message, "hint": error.hint}


def tell(found: Sequence[Difference]) -> None:
    """Log what a reload came to."""
    needs = [one.key for one in found if not one.live]
    changed = [one.key for one in found if one.live]
    log.info("settings read again", changed=changed)
    if needs:
        log.warning(
            "some settings changed that a running process keeps as they were",
            keys=needs,
            hint="start it again to take them up",
        )


def write_running(data: Path, part: str, running: Running) -> None:
    """Write down what this process runs with, whole or not at all; a full disk is no reason to end."""
    place = data / SAID.format(part=part)
    half = place.with_suffix(".new")
    try:
        half.write_bytes(msgspec.json.encode(running))
        half.replace(place)
    except OSError as error:
        log.warning("what runs with which settings cannot be written down", file=str(place), error=error)


def read_running(data: Path, part: str, alive: Callable[[int], bool] | None = None) -> Running | None:
    """Return what a part runs with; None if it does not run."""
    try:
        found = msgspec.json.decode((data / SAID.format(part=part)).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return found if (alive or is_alive)(found.pid) else None


def is_alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
