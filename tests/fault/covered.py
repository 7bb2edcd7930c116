"""Which test covers which rule of CORRECTNESS.md and which row of PAINS.md: by its name (`test_r07_...`, `test_pain03_...`) or by a
marker, `@pytest.mark.covers("R14", "pain 7")`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

RULES = {
    1: "parts: only the epoch that opened one adds to it; windows are merges of parts",
    2: "duplicates by meaning: same series, same time as sent, same value bits",
    3: "duplicates by transport: DUP, packet ids, QoS 2",
    4: "the dedupe horizon, and coverage beyond it",
    5: "acknowledgements belong to their connection, and come after the commit, in order",
    6: "an epoch at every start; a file that went back is reported",
    7: "late readings and coarser levels: a revision or a new part",
    8: "time: clamping, idle watermarks, clocks that are set back",
    9: "retained messages are no readings; overlapping filters are refused",
    10: "the digest of a reading and of a window",
    11: "a step's result is final; its transaction is tried again unchanged",
    12: "one tick, one step, one row with all that it depends on; a replay compares",
    13: "MQTT sessions are in the journal",
    14: "commands are outputs of the step",
    15: "two snapshots, read back; a row that crashes every start",
    16: "payloads are joined by lines, not into an array",
    17: "a full disk: the ballast, the quota",
    18: "holding back is not acknowledging, and reading goes on",
    19: "early ends of a tick; stop-and-wait senders; TLS",
    20: "dead letters name what was not taken; their own quota",
    21: "signed state of detectors",
    22: "a delivered row is only marked sent; the cloud's `have` lets it go; coalescing",
    23: "identity on the bus; lanes overtake; heartbeats",
    24: "one topic, 64 partitions, clock records",
    25: "second stages",
    26: "regions",
    27: "the SQLite log; state, offsets and outputs in the consumer's file",
    28: "stores: whole merged windows; what comes too late is a dead letter",
    29: "notifications at most once more, marked",
    30: "the audit: acknowledged within counted and dead within sent, none twice",
    31: "equal: a replay to the last bit; two runs",
    32: "one writer of each file",
}
PAINS = {
    1: "the first seconds after a disconnect are lost",
    2: "a reconnect or a new configuration destroys the buffer",
    3: "a corrupt buffer stops the start",
    4: "overflow drops silently",
    5: "the disk fills, space never comes back",
    6: "a restart sends everything again, or the drain stops",
    7: "one fsync a message is too slow",
    8: "memory grows",
    9: "client queues are unbounded or lossy",
    10: "reconnected, but nothing arrives",
    11: "reconnect storms, or a backoff stuck high",
    12: "live data waits behind the backlog",
    13: "windows never close, or late data is dropped",
    14: "the Pi has no clock",
    15: "SD cards wear out",
    16: "the broker is absent at boot and the agent dies",
    17: "an idle agent burns CPU",
    18: "an update bricks or loops",
}
NOT_YET = {
    "R24": "partitions and clock records are there on both buses; copies of registry rows, rule versions and people's actions are not",
    "R26": "regions come with MirrorMaker",
    "R29": "JSON lines are there; Alertmanager is not",
}
"""What no test need cover (in full) so far, with the reason."""

ALSO = {
    "R30": ["tests/appliance/test_audit.py::test_uncertain_readings_do_not_excuse_a_lost_one"],
    "pain 3": [
        "tests/edge/test_damage.py::test_a_truncated_file",
        "tests/edge/test_damage_fuzz.py::test_r15_random_damage",
        "tests/system/test_damage.py::test_r15_a_file_without_its_head_under_load",
    ],
    "pain 4": ["tests/fault/test_disk.py::test_r22_a_quota_that_is_reached_while_the_cloud_is_away"],
    "pain 5": [
        "tests/fault/test_disk.py::test_r17_a_disk_that_the_agent_itself_has_filled",
        "tests/fault/test_disk.py::test_r18_the_floor_is_left_to_others",
    ],
    "pain 8": [
        "tests/edge/test_http_source.py::test_r18_memory_is_bounded_while_commits_wait",
        "tests/edge/test_patience.py::test_halves_of_packets_fill_no_memory",
        "tests/edge/test_users.py::test_a_flood_of_topics_fills_no_memory",
    ],
    "pain 9": [
        "tests/shared/test_kafka_bus.py::test_r22_an_append_that_kafka_has_not_taken_raises",
        "tests/system/test_kafka.py::test_nothing_is_lost_or_twice_through_kafka",
    ],
    "pain 10": ["tests/edge/test_forward.py::test_live_to_offline_to_live"],
    "pain 11": ["tests/edge/test_broker_retry.py::test_delays_grow_to_the_cap_while_nothing_lasts"],
    "pain 13": [
        "tests/edge/test_rules.py::test_r07_a_late_reading_revises_what_is_held_at_each_level",
        "tests/edge/test_rules.py::test_r08_an_idle_device_closes_by_monotonic_time_since_its_last_reading",
    ],
    "pain 14": [
        "tests/edge/test_event_time.py::test_r08_a_boot_in_1970_loses_nothing_and_stamps_right_once_the_clock_is_set"
    ],
    "pain 16": ["tests/system/test_broker_process.py::test_two_brokers_at_once_and_one_away_at_boot"],
    "pain 18": [
        "tests/fixtures/test_boxes.py::test_an_old_box_goes_on",
        "tests/shared/test_sqlite_file.py::test_a_newer_file_is_refused_and_untouched",
    ],
}
"""Tests of other names that cover a rule or a row too."""

BY_BENCH = {"pain 7": "edge-listener-max", "pain 15": "edge-disk-bytes", "pain 17": "edge-idle"}
"""What is a figure, and so has a bench."""

_NAME = re.compile(r"test_((?:(?:r|pain)\d\d_)+)")
_KEY = re.compile(r"(r|pain)(\d\d)_")


def keys() -> list[str]:
    """Every rule and row, as a marker names it."""
    return [*(f"R{n}" for n in RULES), *(f"pain {n}" for n in PAINS)]


def by_key() -> dict[str, list[str]]:
    """By rule or row, the tests that cover it: path::name, sorted."""
    found: dict[str, set[str]] = {key: set() for key in keys()}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, key in _of(path):
            found[key].add(f"{path.relative_to(ROOT)}::{name}")
    for key, others in ALSO.items():
        found[key].update(others)
    for key, bench in BY_BENCH.items():
        found[key].add(f"bench {bench}")
    return {key: sorted(tests) for key, tests in found.items()}


def _of(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
            continue
        marked = {key for decorator in node.decorator_list for key in _marked(decorator)}
        named = _NAME.match(node.name)
        if named:
            marked |= {f"{'R' if kind == 'r' else 'pain '}{int(n)}" for kind, n in _KEY.findall(named[1])}
        yield from ((node.name, key) for key in marked)


def _marked(decorator: ast.expr) -> Iterator[str]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.covers":
        yield from (str(ast.literal_eval(argument)) for argument in decorator.args)
