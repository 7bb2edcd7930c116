"""SIGHUP: the settings are read again, checked, and taken up between two steps; a mistake changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from headwater_cloud.settings import CloudSettings
from headwater_shared import logs, reload
from headwater_shared.errors import HeadwaterError
from headwater_shared.reload import COMMON_LIVE, Running, Wish, differences, taken_up
from headwater_shared.settings import Common, load

LIVE = frozenset(
    {
        "alerts", "batch", "compare", "gap_after", "inhibit", "keep", "keep_found", "keep_parts", "pattern", "rules",
        "silent_after", "wait",
    }
)  # fmt: skip
"""Of [cloud]: what a running cloud side takes up. Each other key needs a start, and stands in `RESTART`."""
RESTART = frozenset(
    {
        "bus",
        "commit",
        "file",
        "group",
        "health_host",
        "health_port",
        "influx",
        "notifications",
        "notify",
        "public_url",
        "spread",
        "workers",
        "zones",
    }
)
PART = "cloud"


class Reloading:
    """The cloud side's settings as they are now; the loop calls `once`, which does what `wish` was asked for."""

    def __init__(
        self, common: Common, settings: CloudSettings, file: Path | None = None, wish: Wish | None = None
    ) -> None:
        self.common, self.settings = common, settings
        self.last: dict[str, Any] = {}
        """What the last one came to; empty: there was none."""
        self._file = file
        self._wish = wish
        self._reloads = 0

    def once(self) -> bool:
        """Read the settings again if that was asked for; tell whether there are others to go by."""
        if self._wish is None or not self._wish.asked:
            return False
        self._wish.asked = False
        self._reloads += 1
        try:
            common, wanted = load(self._file, "common", Common), load(self._file, "cloud", CloudSettings)
            found = differences("common", self.common, common, COMMON_LIVE)
            found += differences(PART, self.settings, wanted, LIVE)
        except HeadwaterError as error:
            self.last = reload.failed(error)
            self.write()
            return False
        self.common = taken_up(self.common, common, COMMON_LIVE)
        self.settings = taken_up(self.settings, wanted, LIVE)
        logs.configure(self.common.log, self.common.log_level, part=PART)
        reload.tell(found)
        self.last = reload.said(found)
        self.write()
        return True

    def write(self) -> None:
        """Write down what the cloud side runs with."""
        tables = {"common": msgspec.to_builtins(self.common), PART: msgspec.to_builtins(self.settings)}
        reload.write_running(
            Path(self.common.data), PART, Running(os.getpid(), tables, self.last, self._reloads)
        )
