"""Everything on one box."""

from __future__ import annotations
