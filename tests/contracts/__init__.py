"""Suites that every implementation of an interface passes."""

from __future__ import annotations
