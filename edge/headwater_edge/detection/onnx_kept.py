"""The models that an agent uses or used, by their hash: a journal that was made with one is run again with that very one (R12).

Copies, `models/SHA256.onnx` and `.toml` beside the agent's file, are made when settings name a model; a file that was changed since
then is another model. What is loaded stays loaded, once for all rules that name it: it never changes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from headwater_edge.detection.specs import Spec
from headwater_shared.errors import SettingsError

if TYPE_CHECKING:
    from headwater_edge.detection.onnx_detector import OnnxDetector
    from headwater_edge.detection.onnx_model import Model

PREFIX = "onnx:"
FOLDER = "models"


def is_onnx(use: str) -> bool:
    """Tell whether a detector is named as a model, `onnx:FILE.onnx`."""
    return use.startswith(PREFIX)


def placed(use: str, folder: Path) -> str:
    """Return the name with the file's path from the root; as it stands it is relative to the folder of the settings."""
    return f"{PREFIX}{folder.absolute() / use.removeprefix(PREFIX)}"


class Models:
    """Models that are loaded, and the folder of copies."""

    def __init__(self) -> None:
        self._loaded: dict[str, Model] = {}
        self._folder: Path | None = None
        self._keeps = False

    def look_beside(self, file: Path, *, keep: bool = False) -> None:
        """Look for copies beside an agent's file, and keep further ones there; until this is said there are none."""
        self._folder, self._keeps = file.parent / FOLDER, keep

    def content_of(self, use: str) -> str:
        """Load the model that settings name so, and keep a copy; return its SHA-256, which is what is journaled of it.

        Raises:
            SettingsError: it is no model that an agent runs, see `onnx_model.read`; or the copy cannot be written.
            PartMissing: onnxruntime is not installed.
        """
        from headwater_edge.detection import onnx_model

        path = Path(use.removeprefix(PREFIX))
        body, text = onnx_model.bytes_of(path)
        sha256 = onnx_model.sha256_of(body, text)
        if sha256 not in self._loaded:
            self._loaded[sha256] = onnx_model.read(path, (body, text))
        if self._folder is not None and self._keeps and not _holds(self._folder / f"{sha256}.onnx", sha256):
            try:
                _write(self._folder, sha256, body, text)
            except OSError as error:
                raise SettingsError(
                    f"no copy of {path} can be kept in {self._folder}: {error.strerror}",
                    hint="check owner and disk",
                ) from None
        return sha256

    def of(self, use: str, sha256: str) -> Model:
        """Return the model with this hash: one that is loaded, the copy, or the file itself if it is unchanged.

        Raises:
            SettingsError: there is none any more.
            PartMissing: onnxruntime is not installed.
        """
        if sha256 not in self._loaded:
            from headwater_edge.detection import onnx_model

            places = [Path(use.removeprefix(PREFIX))]
            if self._folder is not None:
                places.insert(0, self._folder / f"{sha256}.onnx")
            path = next((one for one in places if _holds(one, sha256)), None)
            if path is None:
                raise SettingsError(
                    f"the model {places[-1]} is another one than the journal was made with, {sha256[:12]}, and "
                    f"{places[0]} is not there, or damaged",
                    hint="put model and manifest back there as they were then",
                )
            self._loaded[sha256] = onnx_model.read(path)
        return self._loaded[sha256]


MODELS = Models()
"""Of this process."""


def onnx(spec: Spec) -> OnnxDetector:
    """Make the detector of a model.

    Raises:
        SettingsError: the model is not there any more, or the spec says more than the manifest leaves open.
        PartMissing: onnxruntime is not installed.
    """
    from headwater_edge.detection.onnx_detector import OnnxDetector

    if spec.parameters or spec.before or spec.metrics:
        raise SettingsError(
            f"detectors: {spec.use!r} has no parameters, nothing before it and no metrics",
            hint="all that stands in the model's manifest",
        )
    detector = OnnxDetector(MODELS.of(spec.use, spec.content))
    detector.name = PREFIX + Path(spec.use).name.removeprefix(PREFIX)
    return detector


def _holds(path: Path, sha256: str) -> bool:
    from headwater_edge.detection import onnx_model

    try:
        return onnx_model.sha256_of(*onnx_model.bytes_of(path)) == sha256
    except SettingsError:
        return False


def _write(into: Path, sha256: str, body: bytes, text: bytes) -> None:
    """Write both files whole; they are on the disk before a tick that names them is."""
    into.mkdir(parents=True, exist_ok=True)
    for name, content in ((f"{sha256}.toml", text), (f"{sha256}.onnx", body)):
        half = into / f"{name}.new"
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(into / name)
    for folder in (into, into.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
