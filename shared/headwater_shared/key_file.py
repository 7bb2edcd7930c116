"""A key of this machine in a file: outside of the data folder, readable by its owner only, in no backup (R21)."""

from __future__ import annotations

import os
from pathlib import Path

_BYTES = 32


def beside(data: Path, name: str) -> Path:
    """Return where a key is by default: in a folder beside the data folder, which is called `DATA-key`."""
    whole = Path(os.path.abspath(data))  # noqa: PTH100 - a link to the data folder stays one
    return whole.with_name(f"{whole.name}-key") / name


def read(path: Path) -> tuple[bytes, str]:
    """Return the key, or why it is none.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        mode, key = os.fstat(file.fileno()).st_mode, file.read(_BYTES + 1)
    if mode & 0o077:
        return b"", f"others may read the key {path} (it is {mode & 0o777:o}, not 600)"
    return (key, "") if len(key) == _BYTES else (b"", f"the key {path} is damaged")


def make(path: Path) -> None:
    """Make a key, whole or not at all; one that is there stays.

    Raises:
        OSError: it cannot be made.
    """
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
