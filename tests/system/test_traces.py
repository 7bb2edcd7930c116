"""A whole box whose traces go to a collector: from the close of a window to the message that a person gets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.cloud.receivers import webhook
from tests.kafka import MadeTopics
from tests.otlp import collector
from tests.support import until
from tests.system.box import CLOUD, EDGE, box
from tests.system.kafka_box import kafka_box
from tests.system.wire import Wire
from tests.system.workers import ONE

_DETECT = """[[edge.detect]]
name = "unusual"
series = "*/flow"
severity = "critical"
"""
_PARENTS = {
    "window close": "", "detect": "window close", "journal commit": "window close", "forward": "window close", "merge": "forward",
    "commit": "merge", "alert": "merge", "notify": "alert",
}  # fmt: skip


def test_one_trace_leads_from_the_close_of_a_window_to_the_message(tmp_path: Path) -> None:
    """A detector finds a window unusual: agent and cloud side make the spans of one trace, each within the right one, and its id stands in
    the message, in the topic's header and in the log.
    """
    with collector() as spans, webhook() as hook, box(tmp_path, edge="") as here:
        text = here.settings.read_text().replace('log = "json"\n', f'log = "json"\notel = "{spans.url}"\n')
        route = f'[[cloud.notify]]\nname = "duty"\nto = "webhook"\nurl = "{hook.url}"\nmost = 0\n'
        here.settings.write_text(text + _DETECT + route)
        here.up()
        begin = int(time.time()) - 3_600
        with Wire(here.port, "pump-7") as wire:
            for n in range(122):
                value = 90.0 if n > 119 else 20.0 + n * 7 % 5 / 10
                reading = {"ts": begin + 10 * n, "flow": value}
                wire.send(wire.publish("hw/north/pump-7/data", json.dumps(reading).encode()))
            wire.read_acknowledgements(122)
        here.closed()
        until(lambda: any(posted.said["state"] == "firing" for posted in hook.got), 30)
        told = next(posted.said for posted in hook.got if posted.said["state"] == "firing")
        trace = told["trace"][3:35]
        until(lambda: spans.of(trace).keys() >= _PARENTS.keys(), 20, "all spans came")
        here.end(EDGE)
        here.end(CLOUD)
        assert not here.troubles()
    found = spans.of(trace)
    ids = {name: span.span for name, span in found.items()} | {"": ""}
    assert {name: span.parent for name, span in found.items()} == {
        name: ids[of] for name, of in _PARENTS.items()
    }
    assert told["trace"][36:52] == ids["alert"]
    services = [f"headwater-{part}" for part in (EDGE, CLOUD)]
    assert [found[name].service for name in _PARENTS] == [services[0]] * 4 + [services[1]] * 4
    assert all(span.begin_ns <= span.end_ns for span in found.values())
    assert found["window close"].begin_ns <= found["forward"].begin_ns <= found["merge"].end_ns
    assert found["merge"].end_ns <= found["alert"].end_ns <= found["notify"].end_ns
    assert found["window close"].said["rule"] == found["alert"].said["rule"] == told["rule"]
    assert found["notify"].said["notification"] == told["id"]
    lines = [json.loads(line) for line in here.log(CLOUD).read_text().splitlines()]
    assert [line["trace"] for line in lines if line["event"] == "alert firing"] == [trace]


@pytest.mark.fault  # a Kafka of its own: too long for make test
def test_a_worker_on_kafka_makes_the_same_trace(kafka_topics: MadeTopics, tmp_path: Path) -> None:
    """A limit is broken, which is found in readings and not in a window: the same spans, those of the cloud side by the worker."""
    with collector() as spans, kafka_box(tmp_path, kafka_topics) as here:
        text = here.settings.read_text().replace('log = "json"\n', f'log = "json"\notel = "{spans.url}"\n')
        here.settings.write_text(text)
        here.start(EDGE)
        here.start(ONE)
        here.ready(EDGE)
        here.ready(ONE, 60)
        with Wire(here.port, "pump-7") as wire:
            wire.send(wire.publish("hw/north/pump-7/data", b'{"temperature": 91}'))
            wire.read_acknowledgements(1)
        until(lambda: any(span.name == "notify" for span in spans.spans), 60, "a route told it")
        (trace,) = {span.trace for span in spans.spans}
        until(lambda: len(spans.of(trace)) == len(_PARENTS), 20, "all spans came")
        here.end(EDGE)
        here.end(ONE)
    found = spans.of(trace)
    ids = {name: span.span for name, span in found.items()} | {"": "", "window close": found["readings"].span}
    assert {name: span.parent for name, span in found.items() if name != "readings"} == {
        name: ids[of] for name, of in _PARENTS.items() if name != "window close"
    }
