"""What people do with alerts, as both sides see it: what one may say, and its record on the bus."""

from __future__ import annotations

from headwater_shared import records
from headwater_shared.alert_records import Action
from headwater_shared.bus import Record
from headwater_shared.identity import SHARDS
from headwater_shared.topics import IN

NAME = 128
"""Characters of who did it, and of an id."""
LONGEST = 500
"""Characters of why: all that was done with an alert is in the state of its shard."""
_KEY = 600
DOINGS = ("ack", "resolve", "mute", "unmute", "comment")


def wrong(action: Action) -> str:
    """Return what is wrong with an action, "" if nothing is."""
    for name in ("id", "alert", "who"):
        if not 0 < len(getattr(action, name)) <= NAME:
            return f"{name} is empty or longer than {NAME} characters"
    if len(action.why) > LONGEST:
        return f"the reason is longer than {LONGEST} characters"
    if max(len(action.key), len(action.subject), len(action.rule)) > _KEY or not action.key:
        return "it names no alert"
    if not 0 <= action.shard < SHARDS:
        return f"there is no shard {action.shard}"
    if action.what == "comment" and not action.why:
        return "the comment is empty"
    return ""


def record_of(action: Action, source: str) -> Record:
    """Make the record of an action, for the shard of its alert; `source` is the `ce_source`."""
    headers = records.headers(records.ACTION, action.id, source, action.time_us, ce_subject=action.alert)
    return Record(IN.name, action.shard, action.alert, headers, records.encode(action))
