"""What a check of `headwater doctor` may come to."""

from __future__ import annotations

from typing import NamedTuple


class Good(NamedTuple):
    """All is as it should be; `text` says what was seen."""

    text: str


class Note(NamedTuple):
    """It works, and a person may want to know, or to do, this."""

    text: str
    remedy: str = ""


class Bad(NamedTuple):
    """It does not work, or will soon not."""

    text: str
    remedy: str


Verdict = Good | Note | Bad
