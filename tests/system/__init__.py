"""Several processes together, as a person runs them."""

from __future__ import annotations
