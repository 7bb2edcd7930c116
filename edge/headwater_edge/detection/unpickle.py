"""An unpickler that knows River's models and nothing else: what a pickle names besides is not even looked up (R21)."""

from __future__ import annotations

import importlib
import io
import pickle
from typing import Any

from headwater_edge.detection.river_names import IN_PICKLES

_ADMITTED = {(module, name) for module, names in IN_PICKLES.items() for name in names.split()}


class NotAdmitted(pickle.UnpicklingError):
    """A pickle names what is not on the list."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise NotAdmitted(f"the pickle names {module}.{name}, which is not on the list")
        return getattr(importlib.import_module(module), name)

    def persistent_load(self, pid: Any) -> Any:
        raise NotAdmitted("the pickle refers to what is outside of it")


def unpickled(data: bytes) -> Any:
    """Make a model of its pickle.

    Raises:
        UnpicklingError: it names what is not on the list, or is no pickle.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged bytes may come to anything
        raise pickle.UnpicklingError(repr(error)) from error
