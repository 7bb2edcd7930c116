"""What docker-compose.yml puts behind Headwater is read by the programs that it is for, and its job is run by sh against the v2 contract."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from ruamel.yaml import YAML

from headwater_appliance.stack_servers import find
from headwater_cloud.influx_lines import database
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.settings import load
from tests import influx_v2
from tests.influx_v2_http import ORG_ID, Handler, Refusal
from tests.support import ROOT, part_required
from tests.system.composed import binds, services

_JOB = ROOT / "deploy" / "compose" / "influxdb" / "init.sh"


class _Tokens(Handler):
    """The stand-in with mappings of databases, and authorizations, as InfluxDB 2 keeps them."""

    def _route(self, path: str, words: dict[str, str], body: bytes) -> None:
        kept: _Store = self.store  # type: ignore[assignment]
        if path == "/api/v2/dbrps" and self.command == "GET":
            self._known()
            found = [one for one in kept.mapped if one["database"] == words["db"]]
            self._json(200, {"content": found})
        elif path == "/api/v2/dbrps":
            self._known()
            made = {"id": f"{len(kept.mapped) + 1:016x}", **msgspec.json.decode(body)}
            if made["bucketID"] not in {one.id for one in kept.buckets.values()} or made["orgID"] != ORG_ID:
                raise Refusal(404, "bucket not found")
            kept.mapped.append(made)
            self._json(201, made)
        elif path == "/api/v2/authorizations" and self.command == "POST":
            self._known()
            made = {"id": f"{len(kept.tokens) + 1:016x}", "token": f"a-token-{len(kept.tokens)}==", **msgspec.json.decode(body)}  # fmt: skip
            kept.tokens.append(made)
            self._json(201, made)
        else:
            super()._route(path, words, body)


class _Store(influx_v2.Store):
    def __init__(self) -> None:
        super().__init__()
        self.mapped: list[dict[str, Any]] = []
        self.tokens: list[dict[str, Any]] = []
