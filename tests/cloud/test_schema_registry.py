"""The schemas into a registry: a strict server of the tests' own that keeps what Confluent's REST API says."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import fastavro
import pytest

from headwater_cloud.schema_registry import register
from headwater_shared.errors import BusUnavailable, Refused
from headwater_shared.kafka_settings import KafkaSettings
from tests.support import ROOT, free_port


class Registry(ThreadingHTTPServer):
    """Numbers schemas by their text; refuses what is not as the API says, and strangers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.subjects: dict[str, list[str]] = {}
        self.numbers: dict[str, int] = {}
        self.refuses = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        empty, kind, subject, end = self.path.split("/")
        expected = f"Basic {base64.b64encode(b'who:word').decode()}"
        if self.headers["Authorization"] != expected:
            self._answer(401, {"error_code": 401, "message": "who are you"})
        elif (empty, kind, end) != ("", "subjects", "versions") or set(body) != {"schemaType", "schema"}:
            self._answer(422, {"error_code": 42201, "message": "that is no request"})
        elif self.headers["Content-Type"] != "application/vnd.schemaregistry.v1+json":
            self._answer(415, {"error_code": 415, "message": "another content type"})
        elif unquote(subject) == self.server.refuses:
            self._answer(409, {"error_code": 409, "message": "incompatible with an earlier schema"})
        else:
            fastavro.parse_schema(json.loads(body["schema"]))
            versions = self.server.subjects.setdefault(unquote(subject), [])
            if body["schema"] not in versions:
                versions.append(body["schema"])
            number = self.server.numbers.setdefault(body["schema"], len(self.server.numbers) + 1)
            self._answer(200, {"id": number})

    def _answer(self, code: int, what: dict[str, object]) -> None:
        said = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _settings(address: str, tmp_path: Path, word: str = "word") -> KafkaSettings:
    (tmp_path / "word").write_text(word)
    return KafkaSettings(registry=address, registry_user="who", registry_password=f"file:{tmp_path}/word")


def test_every_version_is_registered_once_and_in_order(registry: Registry, tmp_path: Path) -> None:
    """Each frozen schema stands under its record's name, the oldest first; a second time changes nothing."""
    files = {path.read_text() for path in (ROOT / "shared" / "headwater_shared" / "schemas").glob("*.avsc")}
    found = register(_settings(registry.address, tmp_path))
    assert {text for versions in registry.subjects.values() for text in versions} == files
    assert len(found) == len(files)
    assert {"headwater.Frame", "headwater.Anomaly", "headwater.Have"} <= registry.subjects.keys()
    versions = [one.version for one in found if one.subject == "headwater.Anomaly"]
    assert versions == sorted(versions)
    assert versions[0] == 1
    before = {subject: list(texts) for subject, texts in registry.subjects.items()}
    assert register(_settings(registry.address, tmp_path)) == found
    assert registry.subjects == before


def test_what_a_registry_refuses_is_said(registry: Registry, tmp_path: Path) -> None:
    """An incompatible schema and a wrong password are refused with the registry's words; one that is away is tried again."""
    with pytest.raises(Refused, match=r"401 .*who are you"):
        register(_settings(registry.address, tmp_path, "wrong"))
    registry.refuses = "headwater.Frame"
    with pytest.raises(Refused, match=r"409 .*incompatible"):
        register(_settings(registry.address, tmp_path))
    with pytest.raises(BusUnavailable, match="the schema registry at"):
        register(_settings(f"http://127.0.0.1:{free_port()}", tmp_path))
