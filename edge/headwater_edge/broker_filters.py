"""Topic filters of MQTT: which are valid, and which two could match the same topic (R9)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from headwater_shared.errors import SettingsError

_LONGEST = 65_535
"""Bytes of a filter (MQTT 1.5.4)."""


def check_filters(where: str, filters: Sequence[str]) -> None:
    """Check the filters of one broker; `where` names them in messages.

    Raises:
        SettingsError: none at all, one that is none, a shared subscription (R3), or two that overlap (R9).
    """
    if not filters:
        raise SettingsError(f"{where}: no filters", hint='name what to subscribe to, such as "hw/+/+/data/#"')
    for one in filters:
        _check(where, one)
    for first, second in combinations(filters, 2):
        if overlap(first, second):
            raise SettingsError(
                f"{where}: {first!r} and {second!r} overlap; a broker may send what both match twice",
                hint="leave out the narrower one, or write filters that no topic matches both of",
            )


def _check(where: str, one: str) -> None:
    if one.startswith("$share/"):
        raise SettingsError(
            f"{where}: {one!r} is a shared subscription; with one, what this agent has not acknowledged goes to another "
            "agent, which cannot know that it was counted here",
            hint="give each agent topics of its own, such as one site each",
        )
    levels = one.split("/")
    wrong = ""
    if not one or "\0" in one or len(one.encode(errors="surrogatepass")) > _LONGEST:
        wrong = "it is empty, too long, or holds U+0000"
    elif "#" in one and (levels[-1] != "#" or one.count("#") > 1):
        wrong = "# stands for all levels below, so it can only be the last level"
    elif any("+" in level and level != "+" for level in levels):
        wrong = "+ stands for a whole level"
    if wrong:
        raise SettingsError(
            f"{where}: {one!r} is no topic filter: {wrong}", hint='write "site-1/+/data" or "site-1/#"'
        )


def overlap(first: str, second: str) -> bool:
    """Tell whether there is a topic that both valid filters match (MQTT 4.7).

    `#` matches the level above it, too; a wildcard does not match a first level that begins with `$`.
    """
    a, b = first.split("/"), second.split("/")
    if any(one[0] in {"+", "#"} and other[0].startswith("$") for one, other in ((a, b), (b, a))):
        return False
    for at in range(min(len(a), len(b))):
        if "#" in (a[at], b[at]):
            return True
        if a[at] != b[at] and "+" not in (a[at], b[at]):
            return False
    if min(len(a), len(b)) == 1 and "" in (a[0], b[0]):
        return False  # only the empty topic, which is none
    longer, shared = (a, len(b)) if len(a) > len(b) else (b, len(a))
    return len(longer) == shared or longer[shared] == "#"


def covers(wide: str, narrow: str) -> bool:
    """Tell whether a valid filter lets through all that another does; neither begins with a wildcard for a server's own topics."""
    a, b = wide.split("/"), narrow.split("/")
    for at, level in enumerate(a):
        if level == "#":
            return True
        if at >= len(b) or b[at] == "#" or (level not in {"+", b[at]}):
            return False
    return len(a) == len(b)
