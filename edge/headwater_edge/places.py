"""What stands in the data folder: the agent's file, its socket, and where it listens (for those who asked for any free port)."""

from __future__ import annotations

FILE, SOCKET, PLACE = "edge.db", "edge.sock", "edge.json"

ADOPT = "--adopt"
"""Of the command line: the state file becomes this device's (R6)."""
