"""Detectors by the names that settings give them."""

from __future__ import annotations

from collections.abc import Sequence

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.sudden import Sudden

DEFAULT: dict[str, type[Detector]] = {"sudden": Sudden}
"""Those that `default` stands for."""


def made(names: Sequence[str]) -> list[Detector]:
    """Make the detectors called so, in order; `default` stands for several."""
    detectors = []
    for name in names:
        for each in DEFAULT if name == "default" else (name,):
            detector = DEFAULT[each]()
            detector.name = each
            detectors.append(detector)
    return detectors
