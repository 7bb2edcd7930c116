"""What a worker's start imports, and what it leaves to others."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT

UNUSED = ("httpx", "authlib", "joserfc", "confluent_kafka.schema_registry")


def test_a_worker_imports_no_client_of_what_it_does_not_use() -> None:
    """Half of Quix's import is not made; a library that others import afterwards is the real one, as it is if it was there before."""
    code = (
        "import sys; from headwater_cloud import quix_runner; "
        f"print([name for name in {UNUSED} if name in sys.modules]); "
        "import httpx, confluent_kafka.schema_registry as registry; print(httpx.__version__ > '0', registry.SchemaRegistryClient.__module__); "
        "del sys.modules['headwater_cloud.quix_runner']; "
        "from headwater_cloud import quix_runner; print(sys.modules['httpx'] is httpx)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    none, real, kept = done.stdout.splitlines()
    assert none == "[]"
    assert real.startswith("True confluent_kafka.schema_registry.")
    assert kept == "True"
