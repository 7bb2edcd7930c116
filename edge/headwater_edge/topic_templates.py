"""Topics that the agent publishes on, written with {placeholders}: checked once, filled in for each message."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headwater_edge.grants import covers
from headwater_edge.topics import our_name
from headwater_shared.errors import SettingsError

_HOLE = re.compile(r"\{([^{}]*)\}")
_DEVICES = ("hw/", "spBv1.0/", "$", "hw-canary/")
"""Topics on which devices speak, or which are the broker's own."""


def check_template(where: str, text: str, known: Sequence[str]) -> None:
    """Check a template.

    Raises:
        SettingsError: it is none, or its topics would come back as readings.
    """
    unknown = [hole for hole in _HOLE.findall(text) if hole not in known]
    rest = _HOLE.sub("x", text)
    if unknown or set(rest) & set("{}+#\0") or not rest or len(rest) > 1_000:
        raise SettingsError(
            f"{where}: {text!r} is no topic",
            hint=f"a topic without + and #, with {', '.join('{' + hole + '}' for hole in known)} where those stand",
        )
    if text.startswith(_DEVICES):
        raise SettingsError(
            f"{where}: {text!r} is a topic of devices: what goes out would come in again",
            hint='begin it otherwise: "hw-out/..." or "hw-alert/...", for example',
        )


def check_no_return(where: str, text: str, filters: Sequence[str]) -> None:
    """Check that what goes out to a broker is not subscribed to there by the agent itself.

    Raises:
        SettingsError: it would come in again.
    """
    sample = _HOLE.sub("x", text)
    for one in filters:
        if covers(one, sample):
            raise SettingsError(
                f"{where}: what goes out on {text!r} would come in again by the filter {one!r} of that broker",
                hint="narrow filters of the [[edge.broker]], or choose another topic",
            )


def filled(text: str, said: dict[str, str]) -> str:
    """Fill a template in; what is filled in stays within its level."""
    return _HOLE.sub(lambda hole: our_name(said.get(hole[1], "")) or "-", text)
