"""The agent: sources, decode, windows, detect, act, journal, forward."""

from __future__ import annotations
