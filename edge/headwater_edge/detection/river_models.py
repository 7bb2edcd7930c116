"""River's models by name and parameters: everything that settings can get wrong is said here, River is imported only here."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from headwater_edge.detection.river_names import BEFORE, DETECTORS, PARTS
from headwater_edge.detection.specs import Model, Spec
from headwater_shared import extras
from headwater_shared.errors import SettingsError

START = "river."
Make = Callable[[str], Any]
"""Makes a new model for what is called so; the name is what its randomness begins with."""


def maker(spec: Spec) -> tuple[Make, bool]:
    """Return what makes models of a spec, and whether they judge a value (with features) or features alone.

    Raises:
        SettingsError: it names what is not there; the message says which key, and what there is.
        PartMissing: River is not installed.
    """
    extras.load("river.anomaly", "river")
    make = _maker(spec, {"anomaly": DETECTORS}, "")
    try:
        judges = _judges_a_value(make("")[-1])
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{spec.use} cannot be made with these parameters: {error}") from None
    if judges and spec.before:
        raise SettingsError(
            f"before: {spec.use} judges a value, and what is before it changes features",
            hint="leave it out, or name it before the predictive_model",
        )
    return lambda name: _piped(make(name)), judges


def _judges_a_value(model: Any) -> bool:
    from river import base

    while isinstance(model, base.AnomalyFilter):
        model = model.anomaly_detector
    return isinstance(model, base.SupervisedAnomalyDetector)


def _piped(steps: list[Any]) -> Any:
    from river import compose

    return steps[0] if len(steps) == 1 else compose.Pipeline(*steps)


def _maker(model: Model, there: Mapping[str, Collection[str]], key: str) -> Callable[[str], list[Any]]:
    """Return what makes a model with all that is before it, in the order of a pipeline; `key` is where it stands."""
    kind = _kind(model.use, there, f"{key}use")
    known = inspect.signature(kind).parameters
    for name in model.parameters:
        if name not in known:
            raise SettingsError(
                f"{key}parameters.{name}: {model.use} has no such parameter",
                hint=f"it has {', '.join(known)}" if known else "it has none",
            )
    plain: dict[str, Any] = {}
    nested: dict[str, Make] = {}
    for name, value in model.parameters.items():
        if isinstance(value, dict) and "use" in value:
            nested[name] = _nested(value, f"{key}parameters.{name}.")
        else:
            plain[name] = value
    seeded = "seed" in known and "seed" not in plain
    before = [
        _maker(Model(one) if isinstance(one, str) else one, BEFORE, f"{key}before[{at}].")
        for at, one in enumerate(model.before)
    ]

    def make(name: str) -> list[Any]:
        parameters = plain | {parameter: part(name) for parameter, part in nested.items()}
        if seeded:
            parameters["seed"] = zlib.crc32(name.encode())
        return [step for one in before for step in one(name)] + [kind(**parameters)]

    return make


def _nested(value: dict[str, Any], key: str) -> Make:
    try:
        model = msgspec.convert(value, Model)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{key.removesuffix('.')}: {error}") from None
    make = _maker(model, PARTS, key)
    return lambda name: _piped(make(name))


def _kind(use: str, there: Mapping[str, Collection[str]], key: str) -> Any:
    module, _, name = use.removeprefix(START).partition(".")
    if not use.startswith(START) or name not in there.get(module, ()):
        names = [f"{START}{module}.{name}" for module, some in there.items() for name in sorted(some)]
        raise SettingsError(f"{key}: there is no {use!r} here", hint=f"there is {', '.join(names)}")
    found = extras.load(f"{START}{module}", "river")
    if not hasattr(found, name):
        raise SettingsError(f"{key}: the installed version of River has no {name}")
    return getattr(found, name)
