"""Detectors by the names that settings give them."""

from __future__ import annotations

from collections.abc import Sequence

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.sudden import Sudden
from headwater_shared.errors import SettingsError

DEFAULT: dict[str, type[Detector]] = {"sudden": Sudden}
"""Those that `default` stands for."""


def known(name: str, where: str) -> None:
    """Look whether there is a detector of that name.

    Raises:
        SettingsError: there is none.
    """
    if name != "default" and name not in DEFAULT:
        raise SettingsError(
            f"{where}: there is no detector {name!r}", hint=f"default, or one of {', '.join(DEFAULT)}"
        )


def made(names: Sequence[str]) -> list[Detector]:
    """Make the detectors called so, in order; `default` stands for several."""
    detectors = []
    for name in names:
        for each in DEFAULT if name == "default" else (name,):
            detector = DEFAULT[each]()
            detector.name = each
            detectors.append(detector)
    return detectors
