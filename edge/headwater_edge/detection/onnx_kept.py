"""The models that an agent uses or used, by their hash: a journal that was made with one is run again with that very one (R12).

Its copies, `models/SHA256.onnx` and `.toml` in the data folder, are made when settings name a model; a file that was changed since
then is another model.
"""

from __future__ import annotations

import os
from pathlib import Path

from headwater_edge.detection import onnx_model
from headwater_edge.detection.onnx_model import Model
from headwater_shared.errors import SettingsError

PREFIX = "onnx:"


def is_onnx(use: str) -> bool:
    """Tell whether a detector is named as a model, `onnx:FILE.onnx`."""
    return use.startswith(PREFIX)


class Models:
    """Models that are loaded, each once, and the folder that keeps copies of them."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`, made when the first comes."""
        self.folder = folder
        self._loaded: dict[str, Model] = {}

    def take(self, path: Path) -> Model:
        """Load a model that settings name, and keep a copy; what is journaled of it is its `sha256`.

        Raises:
            SettingsError: it is no model that an agent runs; see `onnx_model.read`.
            PartMissing: onnxruntime is not installed.
            OSError: the copy cannot be written.
        """
        body, text = onnx_model.bytes_of(path)
        sha256 = onnx_model.sha256_of(body, text)
        if sha256 not in self._loaded:
            self._loaded[sha256] = onnx_model.read(path, (body, text))
        if not self._is_kept(sha256):
            self._write(sha256, body, text)
        return self._loaded[sha256]

    def of(self, sha256: str) -> Model:
        """Return the model with this hash, from its copy if need be.

        Raises:
            SettingsError: there is no copy, or it is damaged.
            PartMissing: onnxruntime is not installed.
        """
        if sha256 not in self._loaded:
            path = self.folder / f"{sha256}.onnx"
            if not self._is_kept(sha256):
                raise SettingsError(
                    f"the model {sha256[:12]} that this journal was made with is not in {self.folder}, or damaged there",
                    hint=f"copy the model's file to {path} and its manifest beside it, as they were then",
                )
            self._loaded[sha256] = onnx_model.read(path, onnx_model.bytes_of(path))
        return self._loaded[sha256]

    def _is_kept(self, sha256: str) -> bool:
        try:
            found = onnx_model.bytes_of(self.folder / f"{sha256}.onnx")
        except SettingsError:
            return False
        return onnx_model.sha256_of(*found) == sha256

    def _write(self, sha256: str, body: bytes, text: bytes) -> None:
        """Write both files whole; they are on the disk before a tick that names them is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((f"{sha256}.toml", text), (f"{sha256}.onnx", body)):
            half = self.folder / f"{name}.new"
            with half.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            half.replace(self.folder / name)
        for folder in (self.folder, self.folder.parent):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
