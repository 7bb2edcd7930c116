"""Which evidence can be which step of which rule: looked up once for all evidence that is alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

from headwater_cloud.book import Step
from headwater_cloud.evidence import Evidence
from headwater_cloud.patterns import SEVERITIES


@lru_cache(8_192)
def glob(pattern: str) -> Callable[[str], object]:
    """Return what tells whether a text matches, * and ? being any text."""
    return re.compile(translate(pattern)).match


def window_name(step: Step) -> str:
    """Return the name of the evidence that windows are which a step asks for."""
    if step.above is not None:
        return f"{step.level} above {step.above!r}"
    return f"{step.level} below {step.below!r}"


def can_be(step: Step, one: Evidence) -> bool:
    """Tell whether an evidence is of the kind that a step asks for; how long it lasted is another question."""
    if step.kind != one.kind:
        return False
    if step.kind == "window":
        return one.name == window_name(step) and bool(glob(step.series)(one.subject))
    return bool(
        glob(step.name)(one.name)
        and glob(step.series)(one.subject)
        and (step.status == "*" or glob(step.status)(one.status))
        and (step.severity == "info" or _rank(one.severity) >= _rank(step.severity))
    )


def _rank(severity: str) -> int:
    return next((at for at, known in enumerate(SEVERITIES) if known == severity), 1)
