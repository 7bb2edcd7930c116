"""Which devices may speak, by the setting `edge.devices.only`: patterns, the registry, a file; read again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater_shared import registry
from headwater_shared.errors import SettingsError
from headwater_shared.identity import device_of, valid_name
from headwater_shared.logs import get_logger

log = get_logger()

REGISTRY = "registry"
_FILE = "file:"
_LOOK_S = 1.0
_SAID = 1_000
"""Devices that are named in the log when they are refused, once each."""


class Allowed:
    """True if there is a list; then `allows` tells who stands on it.

    Raises:
        SettingsError: an entry is none, or its file cannot be read.
    """

    def __init__(
        self, only: Sequence[str] = (), folder: Path = Path(), monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._patterns = [entry for entry in only if entry != REGISTRY and not entry.startswith(_FILE)]
        check_patterns("edge.devices.only", self._patterns)
        files = [folder / entry.removeprefix(_FILE) for entry in only if entry.startswith(_FILE)]
        self._files: dict[Path, Callable[[Path], list[str]]] = dict.fromkeys(files, _lines)
        if REGISTRY in only:
            self._files[folder / registry.FILE] = lambda path: list(registry.read(path))
        self._listed = bool(only)
        self._monotonic = monotonic
        self._looked = monotonic()
        self._said: set[str] = set()
        self.generation = 0
        """Grows with each change of the list."""
        self._seen = self._look()
        self._take()

    def __bool__(self) -> bool:
        return self._listed

    def allows(self, device: str) -> bool:
        """Tell whether a device (`site/device`) may speak."""
        return (
            not self._listed or device in self._devices or any(fnmatchcase(device, one) for one in self._wide)
        )

    def allows_any(self, name: str) -> bool:
        """Tell whether a device of this name may speak, of whichever site if none is said ("pump-7", "north/pump-7")."""
        if not self._listed or "/" in name:
            return self.allows(name)
        devices = any(device.rpartition("/")[2] == name for device in self._devices)
        return devices or any(fnmatchcase(name, one.rpartition("/")[2]) for one in self._wide)

    def refused(self, device: str) -> str:
        """Say once in the log that a device was refused; return the sentence."""
        why = f"{device} is on no list (edge.devices.only)"
        if device not in self._said and len(self._said) < _SAID:
            self._said.add(device)
            log.warning(
                "a device that is not listed is refused", device=device,
                hint="if it should speak: add it to edge.devices.only, or `headwater registry set`",
            )  # fmt: skip
        return why

    def refresh(self) -> None:
        """Look whether a file changed, at most once a second; one that cannot be read leaves the list as it was."""
        now = self._monotonic()
        if not self._files or now - self._looked < _LOOK_S:
            return
        self._looked = now
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._take()
            except SettingsError as error:
                log.error("the list of devices cannot be read; it stays as it was", error=error)

    def _look(self) -> list[tuple[int, int, int]]:
        found = []
        for path in self._files:
            try:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return found

    def _take(self) -> None:
        entries = self._patterns + [one for path, reads in self._files.items() for one in reads(path)]
        self._wide = [one for one in entries if set(one) & set("*?[")]
        self._devices = frozenset(entries)
        self.generation += 1
        self._said.clear()


class Unlisted:
    """Which series are of devices that may not speak, as a column that follows the list."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._generation = 0
        self._mask = np.zeros(0, np.bool_)

    def of(self, series: NDArray[np.int32], names: Sequence[str]) -> NDArray[np.bool_]:
        """Tell of readings whether they are; shape (n,)."""
        if self._generation != self._allowed.generation:
            self._generation, self._mask = self._allowed.generation, np.zeros(0, np.bool_)
        if len(self._mask) < len(names):
            more = [not self._allowed.allows(device_of(name)) for name in names[len(self._mask) :]]
            self._mask = np.append(self._mask, np.array(more, np.bool_))
        found: NDArray[np.bool_] = self._mask[series]
        return found

    def look_again(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """These became other series'."""
        for number in numbers:
            if number < len(self._mask):
                self._mask[number] = not self._allowed.allows(device_of(names[number]))


def check_patterns(where: str, patterns: Sequence[str]) -> None:
    """Check that these are SITE/DEVICE, with * and ? for any text.

    Raises:
        SettingsError: naming the first that is not.
    """
    for pattern in patterns:
        names = pattern.split("/")
        if pattern != "*" and (len(names) != 2 or not all(map(valid_name, names))):
            raise SettingsError(
                f"{where}: {pattern!r} names no devices",
                hint='write "SITE/DEVICE", such as "north/*", "registry" for those of the registry, or "file:PATH"',
            )


def _lines(path: Path) -> list[str]:
    """Read a file of one SITE/DEVICE a line; # begins a remark."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the list of devices {path} cannot be read: {error}", hint="check its path and its owner"
        ) from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            check_patterns(f"{path}, line {number}", [entry])
            found.append(entry)
    return found
