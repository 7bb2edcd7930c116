"""The key that state is signed with: outside of the data folder, readable by its owner only, in no backup (R21)."""

from __future__ import annotations

import os
from pathlib import Path

from headwater_edge.detection.signed import Seal
from headwater_edge.detection.specs import spec_of
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import SettingsError

_BYTES = 32
NAME = "state.key"


def key_path(data: Path, named: str = "") -> Path:
    """Return where the key is: as the settings say, or in a folder beside the data folder, which is called `DATA-key`.

    Raises:
        SettingsError: in the data folder, where every copy of it would have the key.
    """
    whole = Path(os.path.abspath(data))  # noqa: PTH100 - a link to the data folder stays one
    path = Path(os.path.abspath(named)) if named else whole.with_name(f"{whole.name}-key") / NAME  # noqa: PTH100
    if path.resolve().is_relative_to(whole.resolve()):
        raise SettingsError(
            f"edge.state_key: {path} is in the data folder", hint="a copy of the folder must not have the key"
        )
    return path


def seal_of(path: Path, agent: str, *, make: bool) -> Seal:
    """Return the seal of a key; one without a key, if it cannot be had.

    Args:
        make: a key that is not there is made: there will be something to sign.
    """
    try:
        if make:
            _make(path)
        with path.open("rb") as file:
            mode, key = os.fstat(file.fileno()).st_mode, file.read(_BYTES + 1)
    except OSError as error:
        return Seal(agent=agent, why=f"the key {path} cannot be had: {error.strerror or error}")
    if mode & 0o077:
        return Seal(agent=agent, why=f"others may read the key {path} (it is {mode & 0o777:o}, not 600)")
    if len(key) != _BYTES:
        return Seal(agent=agent, why=f"the key {path} is damaged")
    return Seal(key, agent)


def _make(path: Path) -> None:
    """Make a key, whole or not at all; one that is there stays."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(half, path)
        except FileExistsError:
            return  # another process was faster: its key it is
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    finally:
        half.unlink(missing_ok=True)


def seal_for(settings: EdgeSettings, data: Path) -> Seal:
    """Return the seal of an agent; a key is made only where a detector has models that are signed.

    Raises:
        SettingsError: see `key_path`.
    """
    uses = any(spec_of(each).use.startswith("river.") for one in settings.detect for each in one.detectors)
    return seal_of(key_path(data, settings.state_key), settings.name, make=uses)
