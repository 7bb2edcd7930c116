"""Libraries that are imported only when they are used, and the pip line that is missing where they are not installed."""

from __future__ import annotations

import importlib
from types import ModuleType

from headwater_shared.errors import PartMissing


def load(module: str, extra: str) -> ModuleType:
    """Import a library that belongs to an extra of the distribution.

    Raises:
        PartMissing: it is not installed; the hint is the line to type.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        wanted = module.partition(".")[0]
        if (missing.name or "").partition(".")[0] != wanted:
            raise  # the library is there, and something that it needs is not: its own message says what
        raise PartMissing(
            f"the library {wanted} is not installed", hint=f"pip install 'headwater[{extra}]'"
        ) from missing
