"""Writes the dashboards: `python -m headwater_dashboards` (`make dashboards`)."""

from __future__ import annotations

from pathlib import Path

from headwater_dashboards import device, findings, fleet, pipeline
from headwater_dashboards.pages import text

FOLDER = Path(__file__).resolve().parent.parent / "dashboards"
PAGES = (fleet.made, device.made, findings.made, pipeline.made)


def files() -> dict[str, str]:
    """Return what each file is to hold, by its name."""
    built = [make() for make in PAGES]
    return {f"{one.uid}.json": text(one) for one in built}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, body in files().items():
        (FOLDER / name).write_text(body, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
