"""The cloud side, from the bus to the stores."""

from __future__ import annotations
