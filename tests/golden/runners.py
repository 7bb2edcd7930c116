"""The runners that must pass every golden trace, each as a call that plays one and says what it came to.

A runner is added here: it takes in `trace.acts`, one act in whole before the next, in an empty folder, and gives
`outcome.read` of its file and of its topics. `request` gives it fixtures, a Kafka say (`tests.golden.on_kafka`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.golden import in_pieces, local, on_quix
from tests.golden.outcome import Outcome
from tests.golden.trace import Trace

Runner = Callable[[Trace, Path, pytest.FixtureRequest], Outcome]

RUNNERS: dict[str, Runner] = {
    "pieces, batches of 1": lambda trace, folder, _: in_pieces.play(trace, folder, 1),
    "pieces, batches of 200": lambda trace, folder, _: in_pieces.play(trace, folder, 200),
    "pieces, killed": lambda trace, folder, _: in_pieces.play(trace, folder, 5, seed=len(trace.about)),
    "quix": lambda trace, folder, request: on_quix.play(trace, folder, request.getfixturevalue("kafka")),
    "local, batches of 1": lambda trace, folder, _: local.play(trace, folder, 1),
    "local, batches of 7": lambda trace, folder, _: local.play(trace, folder, 7),
    "local, batches of 200": lambda trace, folder, _: local.play(trace, folder, 200),
    "local, killed": lambda trace, folder, request: local.killed(
        trace, folder, 7, request.getfixturevalue("steps"), kills=4, seed=len(trace.about)
    ),
}
