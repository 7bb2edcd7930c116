"""`python -m headwater_firmware_sim` is `headwater-sim`."""

from __future__ import annotations

from headwater_firmware_sim.cli import main

if __name__ == "__main__":
    main()
