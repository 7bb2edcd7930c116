"""Clients that are not ours, each a program of the same words: PORT VERSION QOS COUNT NAME (see `test_foreign_clients`)."""

from __future__ import annotations
