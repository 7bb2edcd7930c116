"""What a client may subscribe to: the commands for its own devices, and, with that right, what the agent puts out for others;
and which filters a topic of ours is for.
"""

from __future__ import annotations

import re

from headwater_edge.grants import Grant, covers
from headwater_edge.protocol import FILTER_REFUSED, FILTER_SHARED, FILTER_WILDCARD

_WORD = "[^/+#]+"
_COMMANDS = re.compile(
    f"hw/{_WORD}/{_WORD}/cmd"
    rf"|spBv1\.0/{_WORD}/NCMD/{_WORD}(/#)?"
    rf"|spBv1\.0/{_WORD}/DCMD/{_WORD}/({_WORD}|[+#])"
)
"""Our own topics, and those of a Sparkplug node and its devices (Sparkplug 3.0, 5.11 and 5.12): nodes in the field name
theirs with a /# at the end, so that is granted below one node, and no wildcard above it is.
"""


OUT = ("hw-out/", "hw-alert/")
"""What topics of alerts and egress begin with by default: without users anyone on this machine may subscribe below these."""
_INNER = ("hw/", "spBv1.0/", "$")
"""Devices' own topics: they are never sent to others."""


def code_of(topic: str, qos: int, grant: Grant | None) -> int:
    """Return the code of one filter in a SUBACK: a QoS, or from 0x80 on why not."""
    if _COMMANDS.fullmatch(topic):
        return min(qos, 1) if grant is None or grant.allows(topic.encode()) else FILTER_REFUSED
    if topic.startswith("$share/"):
        return FILTER_SHARED
    if _is_filter(topic) and (topic.startswith(OUT) if grant is None else grant.reads(topic)):
        return 0  # it is sent at QoS 0
    return FILTER_WILDCARD if "+" in topic or "#" in topic else FILTER_REFUSED


def is_granted(topic: str, grant: Grant | None) -> bool:
    """Whether the filter is one of those that are granted."""
    return is_command(topic) or code_of(topic, 0, grant) == 0


def is_command(topic: str) -> bool:
    """Whether a filter is for a device's commands; the others that sessions have are for what is put out."""
    return bool(_COMMANDS.fullmatch(topic))


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic is of a filter (MQTT 5, 4.7); "a/#" is "a" too."""
    return covers(topic_filter, topic)


def _is_filter(topic: str) -> bool:
    levels = topic.split("/")
    plain = all(level in {"+", "#"} or not set(level) & {"+", "#"} for level in levels)
    return plain and "#" not in levels[:-1] and not topic.startswith(_INNER)


def filters_for(topic: str) -> tuple[str, ...]:
    """Return all filters that may be granted and that a topic without wildcards matches (MQTT 5, 4.7)."""
    above = topic.rpartition("/")[0]
    return topic, f"{topic}/#", f"{above}/#", f"{above}/+"
