"""The simulated fleet: signal, fault, device, fleet, with the truth kept."""

from __future__ import annotations
