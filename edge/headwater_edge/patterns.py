"""Topic patterns: which topics a format is for, and where in them site, device and metric stand."""

from __future__ import annotations

import re
from typing import NamedTuple

from headwater_edge.topics import our_name
from headwater_shared.errors import SettingsError, Unreadable
from headwater_shared.identity import valid_name

_HOLE = re.compile(r"\{([^{}]*)\}")
_HOLES = ("site", "device", "metric")
_WHAT = "a topic with {site}, {device} and {metric} where those stand, + for one level, # for all below"


class Where(NamedTuple):
    """What a topic says; None where it says nothing of that."""

    site: str | None
    device: str | None
    metric: str | None


class Pattern:
    """A pattern such as `shellies/{device}/relay/{metric}`.

    A placeholder stands for text of one level; one that is there twice takes both texts, joined by a dot. The settings'
    `+` and `#` are those of MQTT.
    """

    def __init__(self, text: str) -> None:
        """Compile a pattern.

        Raises:
            SettingsError: it is none.
        """
        self.text = text
        self._holes: list[str] = []
        levels = text.split("/")
        below = levels[-1] == "#"
        inner = levels[:-1] if below else levels
        source = "/".join("[^/]*" if level == "+" else self._level(level) for level in inner)
        if below:
            source = f"{source}(?:/.*)?" if inner else ".*"
        self._regex = re.compile(source, re.DOTALL)

    def match(self, topic: str) -> Where | None:
        """Return what a topic says, or None if the pattern is for others.

        Raises:
            Unreadable: what stands in a placeholder is no name.
        """
        found = self._regex.fullmatch(topic)
        if found is None:
            return None
        said: dict[str, str] = {}
        for hole, part in zip(self._holes, found.groups(), strict=True):
            said[hole] = f"{said[hole]}.{part}" if hole in said else part
        for hole, name in said.items():
            said[hole] = our_name(name)
            if not valid_name(said[hole]):
                raise Unreadable(f"the topic has no name for the {hole}", reason="bad-topic")
        return Where(*map(said.get, _HOLES))

    def names(self, hole: str) -> bool:
        """Tell whether `site`, `device` or `metric` stands in the topics."""
        return hole in self._holes

    @property
    def filter(self) -> str:
        """The MQTT topic filter that lets through all that the pattern is for."""
        levels = ["+" if "{" in level else level for level in self.text.split("/")]
        return "/".join(levels)

    def _level(self, level: str) -> str:
        out, at = [], 0
        for hole in _HOLE.finditer(level):
            if hole[1] not in _HOLES:
                raise self._wrong(f"{hole[0]} is no placeholder")
            self._holes.append(hole[1])
            out += [re.escape(level[at : hole.start()]), "([^/]+)"]
            at = hole.end()
        out.append(re.escape(level[at:]))
        rest = _HOLE.sub("", level)
        if any(sign in rest for sign in "{}+#"):
            raise self._wrong(f"{level!r} is neither text nor one level's + nor the # at the end")
        return "".join(out)

    def _wrong(self, why: str) -> SettingsError:
        return SettingsError(f"topics = {self.text!r}: {why}", hint=f"write {_WHAT}")
