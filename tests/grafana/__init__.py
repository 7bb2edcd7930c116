"""Grafana: its dashboards and its provisioning, and every query of them on the stores that they ask."""

from __future__ import annotations
