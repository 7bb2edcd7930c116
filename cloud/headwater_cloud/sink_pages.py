"""What the sink is asked over HTTP, beside health and metrics: `headwater-cloud sink rerun | retry`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import msgspec

from headwater_cloud.influx_file import InfluxFile
from headwater_cloud.notify_pages import HEADER
from headwater_shared.health import Answered, Asked, Page

SINK = "/sink/"


def pages(file: InfluxFile) -> Mapping[str, Page]:
    """Return the pages of a process that has the sink's file."""

    def answer(asked: Asked) -> Answered:
        if asked.method != "POST" or HEADER.lower() not in asked.headers:
            return _json(403, {"error": f"post it, with the header {HEADER}: `headwater-cloud sink` does"})
        url = urlsplit(asked.path)
        words = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == f"{SINK}retry":
            return _json(200, {"retried": file.retry()})
        if url.path == f"{SINK}rerun" and words.keys() >= {"from", "to"}:
            file.add_job(int(words["from"]), int(words["to"]))
            return _json(200, {"begun": True})
        return _json(404, {"error": f"{SINK}retry or {SINK}rerun?from=&to= (microseconds)"})

    return {SINK: answer}


def _json(status: int, said: object) -> Answered:
    return Answered(status, "application/json", msgspec.json.encode(said) + b"\n")
