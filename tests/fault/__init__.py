"""Kills, cuts and full disks, longer than make test has time for."""

from __future__ import annotations
