"""What a user, or the holder of a certificate, may speak for: devices by site and name, and topics of other formats.

Written as "SITE/DEVICE" (`*` and `?` match within a name), which is every topic below `hw/SITE/DEVICE/`, or as
"topic:FILTER" with a filter of MQTT (`+`, `#`), for formats whose topics do not begin with `hw`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name

_TOPIC = "topic:"
_KNOWN, _LONGEST = 16_384, 128
"""Topics remembered a user, and bytes of each; a flood of others empties the memory, and costs time only."""


class Grant:
    """What one user may speak for. `known` holds topics that were found allowed: the hot path looks there first."""

    __slots__ = ("_pattern", "known", "nothing", "standing", "user")

    def __init__(self, user: str, rules: Sequence[str] | None, standing: str = "") -> None:
        """Make one from rules that `check` found good; None: the device that is called as the user is, and no other.

        Args:
            standing: changes when the user has to say again who it is: a new password.
        """
        self.user = user
        self.standing = standing
        self.known: set[bytes] = set()
        self.nothing = rules is not None and not rules
        """Whether the user is locked out."""
        patterns = [_own(user)] if rules is None else map(_pattern, rules)
        self._pattern = re.compile("|".join(patterns) or r"(?!)", re.DOTALL)

    def allows(self, topic: bytes) -> bool:
        """Tell whether the user may publish to a topic, or be sent what is published there."""
        return topic in self.known or self._look(topic)

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
        levels = rule.removeprefix(_TOPIC).split("/")
        if rule.startswith(_TOPIC):
            good = levels != [""] and all(
                level in {"+", "#"} or not set(level) & {"+", "#", "\0"} for level in levels
            )
            good = good and "#" not in levels[:-1]
        else:
            good = len(levels) == 2 and all(map(valid_name, levels))
        if not good:
            raise SettingsError(
                f"{rule!r} names no devices and no topics",
                hint='write "SITE/DEVICE", such as "north/*", or "topic:FILTER", such as "topic:tele/pump-7/#"',
            )


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
