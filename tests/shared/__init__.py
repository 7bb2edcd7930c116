"""What both sides agree on."""

from __future__ import annotations
