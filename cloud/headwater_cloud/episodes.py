"""What patterns find, as alerts take it: the episodes of a rule, and all of them that the kept evidence gives."""

from __future__ import annotations

from typing import NamedTuple


class Episode(NamedTuple):
    """One time that a rule held. Times in microseconds of event time."""

    rule: str
    subject: str
    """A series, device, site or cohort."""
    begin_us: int
    """Of its first evidence (R26)."""
    fired_us: int | None
    """When it was complete, and had held for as long as the rule says; None: not yet."""
    end_us: int | None
    """None: still so."""
    severity: str
    text: str
    value: float
    evidence: tuple[str, ...]
    """Ids, in order; of many the first and the last ones."""
    agents: tuple[str, ...]
    """Whose word it rests on."""
    last_us: int = 0
    """When the last of its chains was complete."""
    sure: str = ""
    """How sure, in words."""


class Watched(NamedTuple):
    """All episodes that a rule has now by the evidence of a key; what is not among them, and ended after `forgotten_us`, is no more."""

    key: str
    rule: str
    episodes: tuple[Episode, ...]
    forgotten_us: int
    """Evidence that ended before this may have been let go."""
    gone: bool = False
    """Whether there is no such rule any more."""
    since_us: int = 0
    """When the rule's text was put in: what was complete before is no news, unless it goes on with an alert that is known."""
