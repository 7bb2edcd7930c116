"""The schemas into a registry that speaks Confluent's REST API, for tools that look schemas up there."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from importlib import resources
from typing import NamedTuple
from urllib.parse import quote

from headwater_shared.errors import BusUnavailable, Refused
from headwater_shared.kafka_settings import KafkaSettings
from headwater_shared.settings import secret

_PATIENCE_S = 10.0
_FILE = re.compile(r"([\w-]+)-(\d+)\.avsc")


class Registered(NamedTuple):
    """One version of a schema, and its number in the registry."""

    subject: str
    version: int
    number: int


def register(settings: KafkaSettings) -> list[Registered]:
    """Register every version of every schema, the oldest first, under its record's full name (`headwater.Frame`).

    What is there already stays as it is, so this can be done again.

    Raises:
        Refused: the registry takes one not: there is another schema under that name.
        BusUnavailable: it does not answer; do it again.
    """
    found = []
    for version, text in _versions():
        schema = json.loads(text)
        subject = f"{schema['namespace']}.{schema['name']}"
        path = f"/subjects/{quote(subject, safe='')}/versions"
        number = _post(settings, path, {"schemaType": "AVRO", "schema": text})["id"]
        found.append(Registered(subject, version, int(number)))
    return found


def _versions() -> list[tuple[int, str]]:
    """Return the frozen schemas with their versions, older ones first."""
    folder = resources.files("headwater_shared") / "schemas"
    names = [(match[1], int(match[2])) for file in folder.iterdir() if (match := _FILE.fullmatch(file.name))]
    return [
        (version, (folder / f"{name}-{version}.avsc").read_text(encoding="utf-8"))
        for name, version in sorted(names)
    ]


def _post(settings: KafkaSettings, path: str, body: dict[str, str]) -> dict[str, int]:
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    if settings.registry_user and settings.registry_password:
        word = f"{settings.registry_user}:{secret(settings.registry_password)}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(word).decode()}"
    where = settings.registry.rstrip("/") + path
    request = urllib.request.Request(where, json.dumps(body).encode(), headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310 - a person set the address
            found: dict[str, int] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")[:300]
        raise Refused(
            f"the schema registry refuses {where}: {error.code} {said}",
            hint="look at the subject there, and at registry_user and registry_password in [kafka]",
        ) from None
    except (OSError, ValueError) as error:
        raise BusUnavailable(
            f"the schema registry at {where}: {getattr(error, 'reason', error)}",
            hint="check registry in [kafka]",
        ) from None
