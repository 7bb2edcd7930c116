"""The cloud side: consume, dedupe, merge, compare, patterns, alerts, write."""

from __future__ import annotations
