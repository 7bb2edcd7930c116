"""A detector as settings name it: which one, with which parameters, over what."""

from __future__ import annotations

from typing import Any

import msgspec


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that is made by name. A parameter may be one, too: a table with `use` in it."""

    use: str
    parameters: dict[str, Any] = {}
    before: tuple[str | Model, ...] = ()
    """What its features go through before it, in order; a plain name is one without parameters."""


class Spec(Model, frozen=True, forbid_unknown_fields=True):
    """One detector."""

    metrics: tuple[str, ...] = ()
    """Of one device that it looks at together; without any it looks at each series alone."""
    content: str = ""
    """Of the file that `use` names, its hash; not for people to write: see `make.pinned`."""
    refused: str = ""
    """Why it is not to run; not for people to write, either: see `bearable`."""


def spec_of(named: str | Spec) -> Spec:
    """Return the spec that a plain name stands for."""
    return Spec(named) if isinstance(named, str) else named


def words(spec: Spec) -> str:
    """Return what tells one spec from another, for people and for the state that was learnt under it."""
    return spec.use if spec == Spec(spec.use) else msgspec.json.encode(spec, order="sorted").decode()
