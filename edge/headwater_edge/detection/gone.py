"""A detector that cannot be had any more: its file is gone, or another one; its library is not installed."""

from __future__ import annotations

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.make import made
from headwater_edge.detection.points import Floats, Points
from headwater_edge.detection.specs import Spec, words
from headwater_shared.errors import HeadwaterError


class Gone(Detector):
    """Stands where it stood, and says nothing: a journal of before is run again without it, and the others go on."""

    def __init__(self, spec: Spec, why: str) -> None:
        super().__init__()
        self.name, self.metrics = spec.use, spec.metrics
        self.why = why

    def score(self, points: Points) -> Floats:
        """Return NaN for all."""
        return np.full(len(points), np.nan)


class GoneOfDevices(Gone):
    """One that looked at devices."""

    WHOLE_DEVICES = True


def made_or_gone(spec: Spec) -> list[Detector]:
    """Make the detectors that a spec stands for; what cannot be made is `Gone`."""
    try:
        return made([spec])
    except HeadwaterError as error:
        return [(GoneOfDevices if spec.metrics else Gone)(spec, f"{words(spec)}: {error}")]
