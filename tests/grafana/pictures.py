"""Makes docs/pictures/dashboard-*.png of the tests' story: `.venv/bin/python -m tests.grafana.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.grafana.asked import Chosen
from tests.grafana.drawn import draw
from tests.grafana.looked import Looked, looked
from tests.support import ROOT

FOLDER = ROOT / "docs" / "pictures"
CHOSEN: dict[str, dict[str, Chosen]] = {
    "headwater-fleet": {},
    "headwater-device": {"site": "south", "device": "pump-007", "metric": ["temperature", "vibration"]},
    "headwater-findings": {},
    "headwater-pipeline": {},
}
"""What is looked at of each."""


def all_of(look: Looked, folder: Path) -> dict[str, list[str]]:
    """Draw every dashboard into a folder; return by uid the panels that had nothing to show."""
    folder.mkdir(exist_ok=True)
    empty = {}
    for uid, chosen in CHOSEN.items():
        path = folder / f"{uid.replace('headwater', 'dashboard')}.png"
        empty[uid] = draw(look.boards[uid], look.opened(uid, **chosen), look.find, path)
    return empty


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, looked(Path(scratch)) as look:
        for uid, empty in all_of(look, FOLDER).items():
            print(uid, "shows nothing in:", ", ".join(empty) or "no panel")


if __name__ == "__main__":
    main()
