"""Speed and size, beside a baseline in the same run."""

from __future__ import annotations
