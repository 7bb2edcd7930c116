"""A worker's start while Kafka is away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from headwater_appliance.ports import steady_port
from tests.support import part_required

_WORKER = """
import os, signal, sys, threading
from headwater_cloud.quix_engine import Engine, application
from headwater_cloud.quix_start import hasten
client = {"bootstrap.servers": sys.argv[1], "socket.timeout.ms": 1000}
begin = hasten(application(client, Engine("group", 1, sys.argv[2])), client)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
threading.Timer(2.5, os.kill, (os.getpid(), signal.SIGTERM)).start()  # then it waits for its transactions
begin()
"""


def test_a_signal_ends_a_worker_that_waits_for_its_transactions(tmp_path: Path) -> None:
    """Nobody answers for as long as it takes; SIGTERM ends it all the same."""
    part_required("kafka")
    words = [sys.executable, "-c", _WORKER, f"127.0.0.1:{steady_port()}", str(tmp_path)]
    assert subprocess.run(words, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 3
