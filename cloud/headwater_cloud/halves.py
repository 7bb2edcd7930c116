"""Something is made of many rows at once; where one of them breaks that, of halves, until this one is alone: all others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from headwater_cloud.poison import NOT_OF_A_RECORD

Row = TypeVar("Row")
Made = TypeVar("Made")


def made_of(
    rows: Sequence[Row], make: Callable[[Sequence[Row]], Made], broken: Callable[[Row, Exception], None]
) -> list[Made]:
    """Return what `make` makes of the rows, in their order and in as few pieces as may be; `broken` is told of each that it cannot be of.

    Raises:
        NOT_OF_A_RECORD: what is no row's fault.
    """
    if not rows:
        return []
    try:
        return [make(rows)]
    except NOT_OF_A_RECORD:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a row does
        if len(rows) == 1:
            broken(rows[0], error)
            return []
    half = len(rows) // 2
    return made_of(rows[:half], make, broken) + made_of(rows[half:], make, broken)
