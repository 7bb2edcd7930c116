"""The simulated fleet and its truth."""

from __future__ import annotations
