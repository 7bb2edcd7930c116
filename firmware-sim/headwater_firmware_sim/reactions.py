"""Reactions: what a scenario's devices do with a command of a name, and what it changes of what they measure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from headwater_shared.settings import Duration, Section


class Reaction(Section, frozen=True, forbid_unknown_fields=True):
    """What becomes of one command; one that the scenario does not name is refused."""

    answer: Annotated[
        Literal["done", "refused", "none"],
        msgspec.Meta(
            description="done: executed and said so; refused: not executed; none: executed, and nothing said."
        ),
    ] = "done"
    after: Annotated[Duration, msgspec.Meta(description="How long it takes, by the wall clock.")] = "0s"
    towards: Annotated[
        dict[str, float],
        msgspec.Meta(
            description="Metrics that go towards a value from then on, such as { temperature = 20.0 }."
        ),
    ] = msgspec.field(default_factory=dict)
    within: Annotated[
        Duration, msgspec.Meta(description="After so long 63% of the way is gone; back again likewise.")
    ] = "20s"
    ends: Annotated[str, msgspec.Meta(description="The command whose effect this one ends.")] = ""
