"""Makes docs/pictures/dashboard-*.png of the tests' story: `.venv/bin/python -m tests.grafana.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from headwater_appliance.stack_servers import Influx
from tests.grafana.asked import Chosen, Shown, text_of
from tests.grafana.boards import INFLUX, Query, read
from tests.grafana.drawn import draw
from tests.grafana.looked import Looked
from tests.grafana.stores import Frame, Store
from tests.grafana.story import told
from tests.stack import make, running
from tests.support import ROOT

FOLDER = ROOT / "docs" / "pictures"
CHOSEN: dict[str, dict[str, Chosen]] = {
    "headwater-fleet": {},
    "headwater-device": {"site": "south", "device": "pump-007", "metric": ["temperature", "vibration"]},
    "headwater-findings": {},
}
"""What is looked at of each."""


def all_of(looked: Looked, folder: Path) -> dict[str, list[str]]:
    """Draw every dashboard into a folder; return by uid the panels that had nothing to show."""
    folder.mkdir(exist_ok=True)
    empty = {}
    for uid, chosen in CHOSEN.items():
        board = looked.boards[uid]

        def find(query: Query, shown: Shown) -> list[Frame]:
            if query.source != INFLUX:
                return []
            return looked.store.ask(text_of(query, looked.boards[query.board], shown))

        name = uid.replace("headwater", "dashboard")
        empty[uid] = draw(board, looked.opened(uid, **chosen), find, folder / f"{name}.png")
    return empty


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        influx = make(Influx, folder / "influx")
        with running(influx), told(folder / "box", influx.url) as story:
            for uid, empty in all_of(Looked(read(), story, Store(influx.port)), FOLDER).items():
                print(uid, "shows nothing in:", ", ".join(empty) or "no panel")


if __name__ == "__main__":
    main()
