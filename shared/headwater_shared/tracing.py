"""Spans of traces to an OpenTelemetry collector: handed over at once, sent by a thread of their own, let go where that cannot keep up.

Off until `configure` names an address; then whoever makes spans asks `on()` first, so that nothing is made for nobody. The
libraries (extra `otel`) are imported by the thread, for that takes a second. Ids are those of `trace`: what is worked on again after a
crash gives the same spans.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from headwater_shared.clock import RealClock
from headwater_shared.errors import PartMissing, SettingsError
from headwater_shared.logs import get_logger
from headwater_shared.trace import span_of, trace_of

log = get_logger()

_MOST = 4_096
"""Spans that wait; what comes beyond is let go, and counted."""
_BATCH = 512
_WAIT_S = 0.5
"""How long the thread gathers before it sends."""
_TIMEOUT_S = 5.0
_LAST_S = 2.0
"""How long the end of a process waits for the last spans."""


Said = Mapping[str, str | int | float]
"""Attributes, by name; in OpenTelemetry with `headwater.` before it."""


class Span(NamedTuple):
    """One span. Times are real ones, in microseconds."""

    context: str
    """The trace and this span, as a `traceparent`."""
    parent: str
    """The span that it is part of, as a `traceparent` or its 16 hex digits; "" of the first one of a trace."""
    name: str
    begin_us: int
    end_us: int
    said: Said
    kind: Literal["internal", "producer", "consumer", "client"] = "internal"
    failed: str = ""
    """Why it did not work; "" if it did."""


class Counts(NamedTuple):
    """Spans of this process: sent, and let go for the collector was away or slow."""

    sent: int
    dropped: int


class Tracing:
    """Spans of one process on their way to one collector."""

    def __init__(self, endpoint: str, part: str, name: str = "", timeout_s: float = _TIMEOUT_S) -> None:
        """Begin; nothing is sent before there is a span. `timeout_s`: for how long one batch is tried.

        Raises:
            SettingsError: the address is none. PartMissing: the libraries are not installed.
        """
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(
                f"common.otel = {endpoint!r} is no address", hint='write "http://127.0.0.1:4318"'
            )
        if importlib.util.find_spec("opentelemetry") is None:
            raise PartMissing(
                "the library opentelemetry is not installed", hint="pip install 'headwater[otel]'"
            )
        path = parts.path.rstrip("/").removesuffix("/v1/traces") + "/v1/traces"
        self._url = parts._replace(path=path).geturl()
        self._part, self._name, self._timeout_s = part, name, timeout_s
        self._waiting: queue.SimpleQueue[Span | None] = queue.SimpleQueue()
        self._sent = self._dropped = 0
        self._trouble = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Hand a span over. Never waits, and never fails."""
        if self._waiting.qsize() >= _MOST:
            self._dropped += 1
        else:
            self._waiting.put(span)

    @property
    def counts(self) -> Counts:
        return Counts(self._sent, self._dropped)

    def close(self) -> None:
        """Send what waits, for a moment at most."""
        self._over.set()
        self._waiting.put(None)
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        made = self._exporter()  # at once: it takes a second, which the first alert need not wait for
        while True:
            some = self._gathered()
            if some:
                try:
                    made = made or self._exporter()
                    went = made is not None and made.send(some)
                except Exception as error:  # noqa: BLE001 - traces hold up nothing, and end nothing
                    went, self._trouble = False, self._say(f"{type(error).__name__}: {error}")
                if went:
                    self._sent += len(some)
                    if self._trouble:
                        log.info("traces go out again", to=self._url)
                    self._trouble = ""
                else:
                    self._dropped += len(some)
                    self._trouble = self._trouble or self._say("the collector does not take them")
            if self._over.is_set() and self._waiting.empty():
                return

    def _exporter(self) -> _Exporter | None:
        try:
            return _Exporter(self._url, self._part, self._name, self._timeout_s)
        except Exception as error:  # noqa: BLE001 - see `_run`
            self._trouble = self._say(f"{type(error).__name__}: {error}")
            return None

    def _gathered(self) -> list[Span]:
        first = self._waiting.get()
        self._over.wait(_WAIT_S)
        some = [first]
        with suppress(queue.Empty):
            while len(some) < _BATCH:
                some.append(self._waiting.get_nowait())
        return [one for one in some if one is not None]

    def _say(self, why: str) -> str:
        if why != self._trouble:
            log.warning("traces are let go", to=self._url, why=why)
        return why


class _Exporter:
    """OpenTelemetry's own exporter, and our spans as it takes them."""

    def __init__(self, url: str, part: str, name: str, timeout_s: float) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import SpanExportResult

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it is said once, by us
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=timeout_s)
        self._success = SpanExportResult.SUCCESS
        self._resource = Resource.create(
            {"service.namespace": "headwater", "service.name": f"headwater-{part}"}
            | ({"service.instance.id": name} if name else {})
        )

    def send(self, some: Sequence[Span]) -> bool:
        return self._exporter.export([self._made(one) for one in some]) is self._success

    def _made(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        trace_id, flags = int(trace_of(span.context), 16), TraceFlags(TraceFlags.SAMPLED)
        parent = span_of(span.parent) or span.parent
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span_of(span.context), 16), is_remote=False, trace_flags=flags),
            parent=SpanContext(trace_id, int(parent, 16), is_remote=True, trace_flags=flags)
            if parent
            else None,
            resource=self._resource,
            attributes={f"headwater.{name}": value for name, value in span.said.items()},
            kind=SpanKind[span.kind.upper()],
            status=Status(StatusCode.ERROR, span.failed) if span.failed else Status(StatusCode.UNSET),
            start_time=span.begin_us * 1_000,
            end_time=max(span.end_us, span.begin_us) * 1_000,
        )


_CLOCK = RealClock()
_now: Tracing | None = None


def configure(endpoint: str, part: str, name: str = "") -> None:
    """Have the spans of this process sent to an address, "" for nowhere; `name`: of the agent.

    Raises:
        SettingsError: the address is none. PartMissing: the libraries are not installed.
    """
    global _now  # noqa: PLW0603 - one a process, as the logs are
    close()
    _now = Tracing(endpoint, part, name) if endpoint else None


def on() -> bool:
    """Tell whether anybody wants spans."""
    return _now is not None


def put(span: Span) -> None:
    """Hand a span over, if anybody wants it."""
    if _now is not None:
        _now.put(span)


def counts() -> Counts:
    """What became of the spans of this process."""
    return Counts(0, 0) if _now is None else _now.counts


def close() -> None:
    """Send what waits, for a moment at most, and send no more."""
    global _now
    last, _now = _now, None
    if last is not None:
        last.close()


def begun() -> int:
    """Return what the machine's clock shows, for the begin of a span; 0 while nobody wants spans."""
    return now_us() if on() else 0


def now_us() -> int:
    """What the machine's clock shows: spans are of its time, whatever the scale of Headwater's."""
    return _CLOCK.now().wall_us
