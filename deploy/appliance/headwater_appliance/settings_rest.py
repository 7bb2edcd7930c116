"""What is wrong in a settings file beside its rules: a table that is none, a route to people that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from headwater_cloud.notify_settings import check_zones, read_routes
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import SettingsError
from headwater_shared.rule_files import Mistake, parsed
from headwater_shared.settings import load
from headwater_shared.settings_faults import line_of


def rest_of(path: Path) -> Iterator[Mistake]:
    """Tell what would keep agent or cloud side from starting: the first of each, and the first route. Secrets are not looked up."""
    yield from _said(path, lambda: load(path, "edge", EdgeSettings))
    wrong = list(_said(path, lambda: load(path, "cloud", CloudSettings)))
    yield from wrong
    if wrong:
        return
    cloud, text = load(path, "cloud", CloudSettings), parsed(path)[0]
    yield from _said(path, lambda: check_zones(cloud.zones), line_of(text, ("cloud", "zones")))
    for number in range(len(cloud.notify)):  # with those before it: a name may be that of two
        read = partial(read_routes, cloud.notify[: number + 1], cloud.notifications, secrets=False)
        wrong = list(_said(path, read, line_of(text, ("cloud", "notify", number))))
        yield from wrong
        if wrong:
            return


def _said(path: Path, read: Callable[[], object], line: int = 0) -> Iterator[Mistake]:
    try:
        read()
    except SettingsError as error:
        place = re.match(r"(.*?):(\d+): ", error.message)
        if place:
            yield Mistake(place[1], int(place[2]), error.message[place.end() :], error.hint)
        elif line:
            yield Mistake(str(path), line, error.message, error.hint)
