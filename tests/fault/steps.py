"""Every step at which agent or cloud side can be killed: a list that a test holds against the source, and the kills at each.

A kill is (step, which time it is reached); where it is reached often, not the first time, so that it falls under load.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.support import ROOT
from tests.system.box import CLOUD, EDGE
from tests.system.kills import Kill

TICK = {
    "tick.gathered": 4,
    "tick.stepped": 5,
    "commit.begun": 3,
    "commit.rows": 6,
    "commit.before": 4,
    "commit.during": 5,
    "commit.after": 3,
    "acknowledge.before": 4,
    "acknowledge.between": 77,
    "acknowledge.after": 5,
}
COMMANDS = {
    "command.committed": 3,
    "command.sending": 4,
    "command.sent": 5,
    "command.received": 4,
    "command.ended": 3,
}
"""Of a life of a command; the steps of a tick lie between: test_command_kills.py dies at all of them."""
ORDERS = {"orders.read": 1}
"""Of an order of the cloud side, before it is a command: test_order_kills.py dies there, and at all steps of a command's life."""
SNAPSHOT = {
    "snapshot.taken": 2,
    "snapshot.piece": 30,
    "snapshot.head": 2,
    "snapshot.check": 2,
    "snapshot.checked": 1,
    "snapshot.gone": 2,
    "snapshot.counts": 1,
}
COMPACTION = {
    "compact.before": 1,
    "compact.between": 1,
    "compact.rows": 1,
    "compact.after": 1,
    "outbox.gone": 1,
}
FORWARD = {
    "forward.before": 3,
    "forward.after": 4,
    "forward.marked": 2,
    "log.begun": 3,
    "log.before": 4,
    "log.during": 5,
    "log.after": 2,
    "have.read": 2,
    "have.before": 1,
    "have.after": 1,
}
RESTART = {
    "restart.opened": 1,
    "restart.snapshot": 1,
    "restart.row": 1,
    "restart.replayed": 1,
    "forward.started": 1,
}
CONSUME = {
    "cloud.consume": 4,
    "cloud.commit.begun": 3,
    "cloud.commit.before": 4,
    "cloud.commit.during": 5,
    "cloud.commit.after": 3,
    "cloud.publish.before": 4,
    "cloud.publish.after": 3,
    "cloud.notify.read": 1,  # not often: an incident tells now and then that it grows
    "cloud.notify.taken": 1,
    "cloud.notify.sending": 1,
    "cloud.notify.written": 1,
    "cloud.notify.sent": 1,
    "cloud.notify.recorded": 1,
    "cloud.clock.before": 2,
    "cloud.clock.after": 2,
    "cloud.registered": 1,
}
CLOUD_RESTART = {"cloud.opened": 1, "cloud.loaded": 1, "cloud.taken-up": 1}
CLOUD_RETENTION = {"cloud.pruned": 1, "cloud.shrink": 1, "log.retained": 1, "log.shrink": 1}
"""Nothing is old enough in a run under load: test_retention_steps.py dies there."""

ELSEWHERE = {
    "aside.made": "tests/edge/test_damage.py",
    "aside.moving": "tests/edge/test_damage.py",
    "aside.moved": "tests/edge/test_damage.py",
    "start.counted": "tests/edge/test_attempts.py",
    "cloud.second": "tests/cloud/test_crashes.py",
    "quix.taken": "tests/fault/test_workers.py",
    "quix.sink.before": "tests/fault/test_workers.py",
    "quix.sink.after": "tests/fault/test_workers.py",
    "quix.written": "tests/fault/test_workers.py",
    "quix.produced": "tests/fault/test_workers.py",
    "quix.committed": "tests/fault/test_workers.py",
    "quix.settled.before": "tests/fault/test_workers.py",
    "quix.settled.after": "tests/fault/test_workers.py",
    "cloud.alertmanager.noted": "tests/system/test_alertmanager.py",
    "cloud.alertmanager.posted": "tests/system/test_alertmanager.py",
    "sink.begun": "tests/cloud/test_sink_process.py",
    "sink.read": "tests/cloud/test_sink_process.py",
    "sink.send.before": "tests/cloud/test_sink_process.py",
    "sink.send.after": "tests/cloud/test_sink_process.py",
    "sink.written": "tests/cloud/test_sink_process.py",
    "sink.move.before": "tests/cloud/test_sink_process.py",
    "sink.move.during": "tests/cloud/test_sink_process.py",
    "sink.move.after": "tests/cloud/test_sink_process.py",
    "cloud.registry": "tests/cloud/test_registry_copies.py",
    "cloud.rules": "tests/cloud/test_rules_in_shards.py",
    "reload.read": "tests/system/test_reload.py",
    "reload.before": "tests/system/test_reload.py",
    "reload.after": "tests/system/test_reload.py",
}
"""Steps that need a file of their own: the tests that kill there. As far as the source has them."""

OF_THE_AGENT = COMMANDS | TICK | SNAPSHOT | COMPACTION | FORWARD | RESTART
OF_THE_CLOUD_SIDE = CONSUME | CLOUD_RESTART
ALL = OF_THE_AGENT | OF_THE_CLOUD_SIDE | CLOUD_RETENTION | ORDERS

_PACKAGES = (ROOT / "shared", ROOT / "edge", ROOT / "cloud")


def kills(steps: dict[str, int], part: str = "") -> tuple[Kill, ...]:
    """Return a kill at each of some steps."""
    return tuple(
        Kill(part or (CLOUD if step.startswith("cloud.") else EDGE), f"{step}:{count}")
        for step, count in steps.items()
    )


def in_the_source() -> Iterator[str]:
    """Every name that is given to `reached` in the source."""
    for package in _PACKAGES:
        for path in package.rglob("*.py"):
            yield from _reached(path)


def _reached(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached":
            for inner in ast.walk(node.args[0]):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.value


def of_today(steps: dict[str, int], share: int) -> dict[str, int]:
    """One of `share` shares of some steps, another one each day; `HEADWATER_DAY=N` repeats that of a day."""
    day = int(os.environ.get("HEADWATER_DAY", "") or datetime.now(UTC).toordinal())
    return dict(list(steps.items())[day % share :: share])
