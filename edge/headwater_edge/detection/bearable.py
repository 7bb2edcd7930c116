"""Detectors that would be too heavy for the series that there are do not run: the agent does, and says so."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headwater_edge.detection.specs import Spec
from headwater_edge.settings import StepSettings
from headwater_shared.errors import SettingsError
from headwater_shared.logs import get_logger
from headwater_shared.series_patterns import Patterns

log = get_logger()

_MANY = 1_000
"""So few series, and none is too heavy: see `weigh`."""


def bearable(settings: StepSettings, names: Sequence[str]) -> StepSettings:
    """Return the settings, those detectors `refused` that weigh too much a series for so many.

    Only at a start and a reload: a series more in the night stops nothing.

    Args:
        names: of all series that are known.
    """
    if not settings.detect:
        return settings
    found = []
    for rule in settings.detect:
        pattern = Patterns([rule.series])
        series = [name for name in names if pattern.of(name)]
        specs = tuple(_weighed(spec, series, rule.name) for spec in rule.detectors)
        found.append(msgspec.structs.replace(rule, detectors=specs))
    return msgspec.structs.replace(settings, detect=tuple(found))


def _weighed(spec: Spec, series: Sequence[str], rule: str) -> Spec:
    rows = {name.rpartition("/")[0] for name in series} if spec.metrics else series
    if not spec.use.startswith("river.") or len(rows) <= _MANY:
        return spec
    from headwater_edge.detection.weigh import check_weight

    try:
        check_weight(spec, len(rows))
    except SettingsError as error:
        log.error("a detector does not run", rule=rule, why=error.message, hint=error.hint)
        return msgspec.structs.replace(spec, refused=error.message)
    return spec
