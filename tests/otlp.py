"""An OpenTelemetry collector of a few lines: takes OTLP over HTTP, and keeps the spans as they came."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


class Received(NamedTuple):
    """One span."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    begin_ns: int
    end_ns: int
    said: dict[str, str | int]
    failed: str


class Collector:
    """What came; `answer` is what it answers with."""

    def __init__(self, port: int) -> None:
        self.spans: list[Received] = []
        self.answer = 200
        collector = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                taken = collector.answer == 200 and self.path == "/v1/traces"
                if taken:
                    collector.spans += _read(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.answer if taken or collector.answer != 200 else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def of(self, trace: str) -> dict[str, Received]:
        """The spans of one trace, by name; of several of a name the last one."""
        return {span.name: span for span in self.spans if span.trace == trace}


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """A collector that is there for a while."""
    made = Collector(port)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


def _read(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for resource in request.resource_spans:
        service = _said(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    str(service), span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
                    span.start_time_unix_nano, span.end_time_unix_nano, _said(span.attributes), span.status.message,
                )  # fmt: skip


def _said(attributes: list[KeyValue]) -> dict[str, str | int]:
    return {
        one.key.removeprefix("headwater."): one.value.string_value
        if one.value.HasField("string_value")
        else one.value.int_value
        for one in attributes
    }
