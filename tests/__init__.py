"""What Headwater claims, as tests; the folders mirror the parts or name a kind."""

from __future__ import annotations
