"""Spans on their way to a collector: they hold up nothing, whatever the collector does, and cost nothing while nobody wants them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from headwater_shared import trace, tracing
from headwater_shared.errors import PartMissing, SettingsError
from headwater_shared.tracing import Said, Span, Tracing
from tests.otlp import collector
from tests.support import ROOT, until

CONTEXT = trace.traceparent("a1/0000000000000001/48/3")


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    tracing.close()


def span(n: int = 0, failed: str = "") -> Span:
    said: Said = {"rows": n, "agent": "a1"}
    return Span(trace.child(CONTEXT, f"{n}"), CONTEXT, "merge", 1_000_000 + n, 1_500_000, said, failed=failed)


def test_a_span_arrives_as_it_was_put() -> None:
    """Ids of the trace, parent, real times, attributes with our prefix, the service, and why it failed."""
    with collector() as got:
        tracing.configure(got.url, "edge", "box")
        tracing.put(span(7, failed="no answer"))
        tracing.put(Span(CONTEXT, "", "window close", 1, 2, {}))
        until(lambda: len(got.spans) == 2, 30)
    first, root = got.spans
    assert first == (
        "headwater-edge", "merge", trace.trace_of(CONTEXT), trace.span_of(trace.child(CONTEXT, "7")), trace.span_of(CONTEXT),
        1_000_007_000, 1_500_000_000, {"rows": 7, "agent": "a1"}, "no answer",
    )  # fmt: skip
    assert (root.name, root.parent) == ("window close", "")


def test_ids_follow_from_trace_and_name() -> None:
    """What is worked on again gives the same span; another name or trace another one; the trace and its flags stay."""
    child = trace.child(CONTEXT, "merge")
    assert child == trace.child(trace.child(CONTEXT, "x"), "merge")
    assert child != trace.child(CONTEXT, "commit")
    assert trace.of({trace.HEADER: child}) == child
    assert (trace.trace_of(child), child[-3:]) == (trace.trace_of(CONTEXT), "-01")
    assert trace.span_of(child) not in {
        trace.span_of(CONTEXT),
        trace.span_of(trace.child(CONTEXT[:-4] + "0-01", "x")),
    }
    assert (trace.trace_of(""), trace.span_of("")) == ("", "")


def test_a_collector_that_is_away_or_slow_holds_up_nothing() -> None:
    """Ten thousand spans are put in a moment, most are let go, and all are counted; when it is there again the next ones arrive."""
    with collector() as gone:
        port = gone.port
    made = Tracing(f"http://127.0.0.1:{port}", "edge", timeout_s=0.1)
    began = time.thread_time()
    for n in range(10_000):
        made.put(span(n))
    assert time.thread_time() - began < 1.0
    until(lambda: made.counts.dropped == 10_000, 60)
    with collector(port) as back:
        made.put(span(1))
        until(lambda: len(back.spans) == 1)
        until(lambda: made.counts == (1, 10_000))
        back.answer = 400
        made.put(span(2))
        until(lambda: made.counts == (1, 10_001), 20)
    made.close()


def test_off_it_imports_nothing_and_asks_nothing() -> None:
    """Neither the agent nor the cloud side loads a library of OpenTelemetry for its own sake; `on` says so."""
    said = subprocess.run(
        [sys.executable, "-c",
         ("import sys, headwater_edge.process, headwater_cloud.process, headwater_cloud.notify_route; from headwater_shared import tracing; "
         "tracing.configure('', 'edge'); print(tracing.on(), tracing.counts(), [n for n in sys.modules if n.startswith('opentelemetry')])")],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert said.stdout == "False Counts(sent=0, dropped=0) []\n"


def test_what_cannot_be_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is none names the key; libraries that are missing name the line to type."""
    with pytest.raises(SettingsError, match=r"common\.otel = '127.0.0.1:4318' is no address"):
        tracing.configure("127.0.0.1:4318", "edge")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PartMissing) as said:
        tracing.configure("http://127.0.0.1:4318", "edge")
    assert said.value.hint == "pip install 'headwater[otel]'"
    assert not tracing.on()
