"""The cloud side's fixtures, for its runner to play traces on."""

from __future__ import annotations

from tests.cloud.conftest import folder, steps

__all__ = ["folder", "steps"]
