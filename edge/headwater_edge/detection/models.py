"""Models that are objects in a snapshot: pickled row by row, all of them as they were at the tick of the cut (R15).

Columns are copied at once; a thousand models would hold the loop up. So at the cut each model is only noted. It is pickled
before it changes next, or when there is a moment, whichever comes first: all that is in the picture is of one tick.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import time
from collections.abc import Iterable, Mapping
from typing import Any

from headwater_edge.detection.unpickle import unpickled

Pickles = dict[int, bytes]
"""By row."""


class Models:
    """What a snapshot holds of one detector's models."""

    def __init__(self, spec: str, names: Mapping[int, str], pickles: Pickles) -> None:
        self.spec = spec
        """Of the detector, as `specs.words` has it."""
        self.names = names
        """What each row is of: a series, a device."""
        self.pickles = pickles
        self.lost: dict[str, int] = {}
        """Rows that were written and are not here, by the reason."""

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.pickles.values()))

    @property
    def is_whole(self) -> bool:
        """Whether every model is pickled."""
        return True

    def before(self, rows: Iterable[int]) -> None:
        """These models are about to change."""

    def some(self, seconds: float) -> bool:
        """Pickle some more for so long, one at least; tell whether all is done."""
        return True


class Cut(Models):
    """Models that go on changing while their picture is taken."""

    def __init__(self, spec: str, names: Mapping[int, str], models: Mapping[int, Any]) -> None:
        super().__init__(spec, names, {})
        self._left = dict(models)

    @property
    def is_whole(self) -> bool:
        return not self._left

    def before(self, rows: Iterable[int]) -> None:
        for row in self._left.keys() & rows:
            self._take(row)

    def some(self, seconds: float) -> bool:
        until = time.perf_counter() + seconds
        while self._left:
            self._take(next(iter(self._left)))
            if time.perf_counter() >= until:
                break
        return self.is_whole

    def _take(self, row: int) -> None:
        self.pickles[row] = pickle.dumps(self._left.pop(row), 5)


def digests(models: Models) -> list[tuple[int, str, bytes]]:
    """Return row, name and digest of each model."""
    return [(row, models.names[row], digest(unpickled(one))) for row, one in sorted(models.pickles.items())]


def digest(model: Any) -> bytes:
    """Hash what a model is, the same before it was pickled and after.

    Its pickle is not that: objects that are equal may be one or two, and what is one is written once.
    """
    whole = hashlib.blake2b(digest_size=16)
    seen: dict[int, int] = {}
    kept: list[Any] = []  # or the number of what is gone would be given to another
    todo = [model]
    while todo:
        one = todo.pop()
        if isinstance(one, str | bytes | int | float | None | type):
            whole.update(f"{type(one).__name__} {one!r};".encode())
            continue
        if not isinstance(one, tuple | frozenset):  # which are the same whether they are one or two
            number = seen.setdefault(id(one), len(kept))
            if number < len(kept):
                whole.update(f"again {number};".encode())
                continue
            kept.append(one)
        whole.update(f"{type(one).__module__}.{type(one).__qualname__} ".encode())
        parts = _parts(one)
        whole.update(f"{len(parts)};".encode())
        todo += reversed(parts)
    return whole.digest()


def _parts(one: Any) -> list[Any]:
    if isinstance(one, random.Random):
        return []  # what was drawn from it shows; River's Gaussian has one without a seed, which no score asks
    if type(one) in {list, tuple}:
        return list(one)
    if type(one) in {set, frozenset}:
        return sorted(one)
    if type(one) is dict:
        return [each for pair in one.items() for each in pair]
    if callable(one) and not hasattr(one, "__dict__"):
        return [one.__module__, one.__qualname__]
    reduced = one.__reduce_ex__(4)
    if isinstance(reduced, str):
        return [reduced]
    kind, arguments, *rest = reduced
    state, items, pairs = (*rest, None, None, None)[:3]
    pairs = [each for pair in pairs or () for each in pair]
    return [kind.__qualname__, *arguments, state, *(items or ()), *pairs]
