"""Detectors by the names that settings give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from headwater_edge.detection import onnx_kept, own
from headwater_edge.detection.density import Density
from headwater_edge.detection.detector import Detector
from headwater_edge.detection.extreme import Extreme
from headwater_edge.detection.relation import Relation
from headwater_edge.detection.season import Season
from headwater_edge.detection.specs import Spec, spec_of
from headwater_edge.detection.spread import Spread
from headwater_edge.detection.sudden import Sudden
from headwater_shared.errors import SettingsError

DEFAULT: dict[str, type[Detector]] = {
    "density": Density, "season": Season, "extreme": Extreme, "sudden": Sudden, "spread": Spread, "relation": Relation,
}  # fmt: skip
"""Those that `default` stands for."""


def placed(spec: Spec, folder: Path) -> Spec:
    """Return a spec whose file is named from the root; as it stands it is relative to the folder of the settings."""
    if own.is_own(spec.use):
        return msgspec.structs.replace(spec, use=str(folder.absolute() / spec.use))
    if onnx_kept.is_onnx(spec.use):
        return msgspec.structs.replace(spec, use=onnx_kept.placed(spec.use, folder))
    return spec


def pinned(spec: Spec) -> Spec:
    """Return a spec that says which content of its file it means: with another one it is another detector.

    Raises:
        SettingsError: the file cannot be read, or is no model.
        PartMissing: its library is not installed.
    """
    if own.is_own(spec.use):
        return msgspec.structs.replace(spec, content=own.content_of(spec.use))
    if onnx_kept.is_onnx(spec.use):
        return msgspec.structs.replace(spec, content=onnx_kept.MODELS.content_of(spec.use))
    return spec


def made(specs: Sequence[str | Spec]) -> list[Detector]:
    """Make detectors, in order; a plain name is a spec without parameters, `default` stands for several.

    Raises:
        SettingsError: there is no such detector, or it cannot be made so.
        PartMissing: its library is not installed.
    """
    detectors: list[Detector] = []
    for spec in map(spec_of, specs):
        if spec.refused:
            raise SettingsError(spec.refused)
        if spec.use == "default":
            detectors += [_ours(Spec(name)) for name in DEFAULT]
        elif spec.use.startswith("river."):
            from headwater_edge.detection.river import river

            detectors.append(river(spec))
        elif own.is_own(spec.use):
            detectors.append(own.own(spec))
        elif onnx_kept.is_onnx(spec.use):
            detectors.append(onnx_kept.onnx(spec))
        else:
            detectors.append(_ours(spec))
    return detectors


def _ours(spec: Spec) -> Detector:
    if spec.use not in DEFAULT:
        raise SettingsError(
            f"detectors: there is no {spec.use!r}",
            hint=f"there is default, {', '.join(DEFAULT)}, river.anomaly.*, onnx:FILE.onnx, FILE.py:Class",
        )
    if spec != Spec(spec.use):
        raise SettingsError(f"detectors: {spec.use!r} has no parameters, nothing before it and no metrics")
    detector = DEFAULT[spec.use]()
    detector.name = spec.use
    return detector
