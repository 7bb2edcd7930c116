"""The pumps of `make demo` on a box, by any way in: what they send depends on nothing but the scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headwater_shared import ledger as ledgers
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load

SECONDS = 45.0
"""Of event time: pump-007 runs hot from second 20 to 40."""
_SCENARIO = ROOT / "firmware-sim" / "headwater_firmware_sim" / "scenarios" / "pumps.toml"


@contextmanager
def pumps(
    folder: Path,
    words: Sequence[str] = (),
    *,
    edge: str = "",
    listener: str = "",
    up: Callable[[Box], None] = lambda _: None,
    devices: int = 200,
    seconds: float = SECONDS,
) -> Iterator[tuple[Box, Callable[[], None], Path]]:
    """Run a box, and the pumps into it.

    Devices keep their connection: what a broker makes of a message that a device sent it twice is nothing that the agent
    could know.

    Args:
        words: more words for `headwater-sim run`, such as the way in.
        edge, listener: more settings of the agent.
        up: called when the box is up, before the pumps start.

    Yields:
        the box; what waits until all is taken, stored and ended; the ledger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenario = folder / "pumps.toml"
    text = _SCENARIO.read_text()
    kept = text.replace("lost_connections = 0.0005\nreboots = 0.0002\n", "")
    assert kept != text
    scenario.write_text(kept)
    with box(folder, edge=edge, listener=listener) as here:
        here.up()
        up(here)
        with load(here, seconds, "--scenario", str(scenario), "--devices", str(devices), *words) as fleet:

            def finish() -> None:
                fleet.finished()
                truth = ledgers.read(fleet.ledger)
                readings = len(set(zip(truth.series_of, truth.time, truth.value, strict=True)))
                until(lambda: here.status().get("accepted", 0) >= readings, 60, "all are taken")
                here.closed()
                here.end(EDGE)
                here.end(CLOUD)

            yield here, finish, fleet.ledger


def broker(port: int, version: str = "5") -> str:
    """Return the settings of an agent that subscribes to what the pumps publish."""
    return f"""
[[edge.broker]]
name = "plant"
host = "127.0.0.1"
port = {port}
version = "{version}"
reconnect = "200ms"
filters = ["hw/+/+/data", "hw/+/+/data/+"]
"""


def connected(here: Box) -> None:
    """Wait until the agent is connected to the broker."""
    until(lambda: here.status().get("broker plant", {}).get("connected"), 20, "the broker is connected")
