"""What a user, or the holder of a certificate, may speak for: devices by site and name, and topics of other formats.

Written as "SITE/DEVICE" (`*` and `?` match within a name), which is every topic below `hw/SITE/DEVICE/`, or as
"topic:FILTER" with a filter of MQTT (`+`, `#`), for formats whose topics do not begin with `hw`. "read:FILTER" is another
right: to subscribe to what the agent puts out on such topics, alerts and egress.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name

_TOPIC, _READ = "topic:", "read:"
_KNOWN, _LONGEST = 16_384, 128
"""Topics remembered a user, and bytes of each; a flood of others empties the memory, and costs time only."""


class Grant:
    """What one user may speak for. `known` holds topics that were found allowed: the hot path looks there first."""

    __slots__ = ("_pattern", "_reads", "known", "nothing", "own", "standing", "user")

    def __init__(self, user: str, rules: Sequence[str] | None, standing: str = "") -> None:
        """Make one from rules that `check` found good; None: the device that is called as the user is, and no other.

        Args:
            standing: changes when the user has to say again who it is: a new password.
        """
        self.user = user
        self.standing = standing
        self.known: set[bytes] = set()
        self.own = rules is None
        """Whether it speaks for the device of its own name, and no other."""
        self.nothing = rules is not None and not rules
        """Whether the user is locked out."""
        self._reads = [rule.removeprefix(_READ) for rule in rules or () if rule.startswith(_READ)]
        spoken = [rule for rule in rules or () if not rule.startswith(_READ)]
        patterns = [_own(user)] if rules is None else map(_pattern, spoken)
        self._pattern = re.compile("|".join(patterns) or r"(?!)", re.DOTALL)

    def allows(self, topic: bytes) -> bool:
        """Tell whether the user may publish to a topic, or be sent what is published there."""
        return topic in self.known or self._look(topic)

    def reads(self, topic: str) -> bool:
        """Tell whether the user may subscribe to a filter, or be sent what a topic brings: one of its rights covers it."""
        return any(covers(granted, topic) for granted in self._reads)

    def _look(self, topic: bytes) -> bool:
        try:
            allowed = self._pattern.fullmatch(topic.decode()) is not None
        except UnicodeDecodeError:
            return False
        if allowed and len(topic) <= _LONGEST:
            if len(self.known) >= _KNOWN:
                self.known.clear()
            self.known.add(topic)
        return allowed


def check(rules: Iterable[str]) -> None:
    """Look whether rules are written right.

    Raises:
        SettingsError: naming the first that is not.
    """
    for rule in rules:
        levels = rule.removeprefix(_TOPIC).removeprefix(_READ).split("/")
        if rule.startswith((_TOPIC, _READ)):
            good = levels != [""] and all(
                level in {"+", "#"} or not set(level) & {"+", "#", "\0"} for level in levels
            )
            good = good and "#" not in levels[:-1]
        else:
            good = len(levels) == 2 and all(map(valid_name, levels))
        if not good:
            raise SettingsError(
                f"{rule!r} names no devices and no topics",
                hint='write "SITE/DEVICE", such as "north/*", "topic:FILTER", such as "topic:tele/pump-7/#", or "read:FILTER", such '
                'as "read:hw-out/#"',
            )


def covers(granted: str, asked: str) -> bool:
    """Tell whether all topics of one filter are of another; a topic is a filter without wildcards.

    Topics that begin with $ are of no filter that begins with a wildcard (MQTT 5, 4.7.2).
    """
    ours, theirs = granted.split("/"), asked.split("/")
    if asked.startswith("$") and ours[0] in {"+", "#"}:
        return False
    for at, level in enumerate(ours):
        if level == "#":  # "a/#" is "a" too, whose end is passed below
            return True
        if at >= len(theirs) or theirs[at] == "#" or (level != "+" and level != theirs[at]):
            return False
    return len(ours) == len(theirs)


def _own(user: str) -> str:
    """The device of the user's own name: of any site, unless the name says which ("north/pump-7")."""
    site, _, device = user.rpartition("/")
    return f"hw/{re.escape(site) or '[^/]+'}/{re.escape(device)}/.+"


def _pattern(rule: str) -> str:
    if not rule.startswith(_TOPIC):
        return f"hw/{'/'.join(map(_name, rule.split('/')))}/.+"
    levels = rule.removeprefix(_TOPIC).split("/")
    below = levels[-1] == "#"
    words = ["[^/]*" if level == "+" else re.escape(level) for level in (levels[:-1] if below else levels)]
    text = "/".join(words)
    if below:
        text = f"{text}(?:/.*)?" if words else ".*"  # "a/#" is "a" too
    return rf"(?!\$){text}" if levels[0] in {"+", "#"} else text  # a server's own topics are not meant


def _name(text: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(letter) or re.escape(letter) for letter in text)
