"""What a client may subscribe to: the commands for its own devices; and which filters a topic of ours is for."""

from __future__ import annotations

import re

from headwater_edge.grants import Grant
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


def code_of(topic: str, qos: int, grant: Grant | None) -> int:
    """Return the code of one filter in a SUBACK: a QoS, or from 0x80 on why not."""
    if _COMMANDS.fullmatch(topic):
        return min(qos, 1) if grant is None or grant.allows(topic.encode()) else FILTER_REFUSED
    if topic.startswith("$share/"):
        return FILTER_SHARED
    return FILTER_WILDCARD if "+" in topic or "#" in topic else FILTER_REFUSED


def is_granted(topic: str) -> bool:
    """Whether the filter is one of those that are granted."""
    return bool(_COMMANDS.fullmatch(topic))


def filters_for(topic: str) -> tuple[str, ...]:
    """Return all filters that may be granted and that a topic without wildcards matches (MQTT 5, 4.7)."""
    above = topic.rpartition("/")[0]
    return topic, f"{topic}/#", f"{above}/#", f"{above}/+"
