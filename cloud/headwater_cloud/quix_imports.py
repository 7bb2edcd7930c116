"""Quix Streams is imported without its clients of schema registries and of its maker's services and its check of JSON, which no worker uses: half
of its import.

A worker that was killed counts again a second earlier for it (bench `cloud-kill`): httpx, authlib and joserfc are behind those clients.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_UNUSED = (
    "confluent_kafka.schema_registry",
    "confluent_kafka.schema_registry.json_schema",
    "httpx",
    "jsonschema",
)


class _Absent(ModuleType):
    """Stands for a library while others are imported, which only name its classes."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def lean() -> Iterator[None]:
    """Import Quix inside; whoever imports one of those libraries afterwards gets the library. Warnings of libraries about libraries go unsaid."""
    absent = {name: _Absent(name) for name in _UNUSED if name not in sys.modules}
    sys.modules.update(absent)
    try:
        with warnings.catch_warnings(record=True):
            yield
    finally:
        for name in absent:
            del sys.modules[name]
