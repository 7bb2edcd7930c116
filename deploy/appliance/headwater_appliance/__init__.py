"""Everything on one box: the command headwater."""

from __future__ import annotations
