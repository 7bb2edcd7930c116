"""fastavro is imported when it is first needed: by the writer's and the forwarder's thread, perhaps at once."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, threading
sys.setswitchinterval(1e-6)
from headwater_shared import avro
failed = []
go = threading.Barrier(3)
def run(use):
    go.wait()
    try:
        use()
    except BaseException as error:
        failed.append(error)
uses = (
    lambda: avro.fingerprint("heartbeat-1"),
    lambda: avro._parsed("anomaly-1"),
    lambda: avro.encode("clock-1", {"time_us": 1}) and None,
)
threads = [threading.Thread(target=run, args=(use,)) for use in uses]
for thread in threads: thread.start()
for thread in threads: thread.join()
print([error for error in failed if isinstance(error, (ImportError, KeyError, AttributeError)) and "fastavro" in str(error)])
"""


def test_threads_that_need_it_first_at_once_all_get_it() -> None:
    """In a new process each time, since an import happens once; without the lock most of these fail."""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout == "[]\n", done.stdout
