"""Grafana's dashboards of Headwater as code: the JSON in `deploy/grafana/dashboards/` is made of it, by `make dashboards`."""

from __future__ import annotations
