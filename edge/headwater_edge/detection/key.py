"""The key that state is signed with: outside of the data folder, readable by its owner only, in no backup (R21)."""

from __future__ import annotations

import os
from pathlib import Path

from headwater_edge.detection.signed import Seal
from headwater_shared.errors import SettingsError
from headwater_shared.logs import get_logger

log = get_logger()

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


class FileSeal(Seal):
    """A seal whose key is in a file; it is made when there is something to sign."""

    def __init__(self, path: Path, agent: str) -> None:
        super().__init__(agent=agent)
        self._path = path

    def find(self, *, make: bool) -> None:
        """Take the key from its file."""
        if self.key:
            return
        before = self.missing
        try:
            if make:
                _make(self._path)
            self.key, self.missing = _read(self._path)
        except OSError as error:
            self.missing = f"the key {self._path} cannot be had: {error.strerror or error}"
        if make and self.missing not in {"", before}:
            log.warning(
                "models are not in the snapshots: after the next start they are learnt anew",
                why=self.missing,
                hint="let the agent make the file, which edge.state_key may name, readable by nobody else",
            )


def _read(path: Path) -> tuple[bytes, str]:
    """Return the key, or why it is none."""
    with path.open("rb") as file:
        mode, key = os.fstat(file.fileno()).st_mode, file.read(_BYTES + 1)
    if mode & 0o077:
        return b"", f"others may read the key {path} (it is {mode & 0o777:o}, not 600)"
    return (key, "") if len(key) == _BYTES else (b"", f"the key {path} is damaged")


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
