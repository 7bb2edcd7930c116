"""The agent, from the socket to the bus."""

from __future__ import annotations
