"""A rule of detection as a step knows it: journaled with the settings (R12)."""

from __future__ import annotations

import msgspec

from headwater_edge.detection.specs import Spec


class DetectRule(msgspec.Struct, frozen=True):
    """Series whose closed windows are judged by an ensemble of detectors."""

    name: str
    series: str
    level: str
    detectors: tuple[Spec, ...]
    severity: str
    text: str
