"""Detectors of one's own: a class in a Python file beside the settings, named as FILE.py:Class."""

from __future__ import annotations

import hashlib
import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.specs import Spec
from headwater_shared.errors import SettingsError

SUFFIX = ".py"


def is_own(use: str) -> bool:
    """Tell whether a detector is named as one of one's own."""
    return use.partition(":")[0].endswith(SUFFIX)


def content_of(use: str) -> str:
    """Return what tells this text of the file from another: its SHA-256.

    Raises:
        SettingsError: it cannot be read.
    """
    return hashlib.sha256(_read(use)).hexdigest()


def own(spec: Spec) -> Detector:
    """Make the detector from the file as it was when the settings were read.

    Raises:
        SettingsError: the file cannot be read, is another one by now, or ends in an error; there is no such class in it; or it does not
            take these parameters.
    """
    path, _, name = spec.use.partition(":")
    text = _read(spec.use)
    if hashlib.sha256(text).hexdigest() != spec.content:
        raise SettingsError(
            f"{path} has changed", hint="reload the settings: the detector learns anew, for it is another one"
        )
    try:
        made = getattr(_module(path, text, spec.content), name, None)
        if not (isinstance(made, type) and issubclass(made, Detector)):
            raise SettingsError(
                f"there is no detector {name!r} in {path}",
                hint="write FILE.py:Class, a class made from headwater_edge.detection.detector.Detector",
            )
        detector = made(**spec.parameters)
        detector.name, detector.metrics = f"{Path(path).name}:{name}", spec.metrics
        return detector
    except SettingsError:
        raise
    except Exception as error:  # whatever a stranger's code does: it is the settings' fault, and the agent's no reason to end
        raise SettingsError(
            f"the detector {spec.use} cannot be made: {type(error).__name__}: {error}", hint=f"see {path}"
        ) from error


def _read(use: str) -> bytes:
    path = Path(use.partition(":")[0])
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"the detector {use} cannot be read: {error.strerror}",
            hint="the path is relative to the settings file",
        ) from None


def _module(path: str, text: bytes, content: str) -> Any:
    name = f"headwater_own_{content[:16]}"
    if name not in sys.modules:
        spec = spec_from_loader(name, loader=None, origin=path)
        assert spec is not None
        module = module_from_spec(spec)
        exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102 - the settings name it: it is the operator's own
        sys.modules[name] = module
    return sys.modules[name]
