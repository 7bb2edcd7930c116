"""The key that state is signed with: outside of the data folder, readable by its owner only, in no backup (R21)."""

from __future__ import annotations

import os
from pathlib import Path

from headwater_edge.detection.signed import Seal
from headwater_shared import key_file
from headwater_shared.errors import SettingsError
from headwater_shared.logs import get_logger

log = get_logger()

NAME = "state.key"


def key_path(data: Path, named: str = "") -> Path:
    """Return where the key is: as the settings say, or in a folder beside the data folder, which is called `DATA-key`.

    Raises:
        SettingsError: in the data folder, where every copy of it would have the key.
    """
    whole = Path(os.path.abspath(data))  # noqa: PTH100 - a link to the data folder stays one
    path = Path(os.path.abspath(named)) if named else key_file.beside(data, NAME)  # noqa: PTH100
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
                key_file.make(self._path)
            self.key, self.missing = key_file.read(self._path)
        except OSError as error:
            self.missing = f"the key {self._path} cannot be had: {error.strerror or error}"
        if make and self.missing not in {"", before}:
            log.warning(
                "models are not in the snapshots: after the next start they are learnt anew",
                why=self.missing,
                hint="let the agent make the file, which edge.state_key may name, readable by nobody else",
            )
