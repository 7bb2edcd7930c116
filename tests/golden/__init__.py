"""Golden traces: what lay on `hw-in`, and the outcome that every runner must come to (R31)."""

from __future__ import annotations
