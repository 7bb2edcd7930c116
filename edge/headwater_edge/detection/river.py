"""River's anomaly detectors: one model a series, or one a device over several metrics, scored and learnt one by one.

River knows two kinds: those that judge a value `y` with features `x` beside it, and those that judge the features. Of a
series the value is the window's mean, which is the one feature, too. Of a device the first of the metrics is the value and
the others are its features; or all are features. What a device lacks is left out of them.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import length_hint
from statistics import fmean
from typing import Any

import numpy as np

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.models import Cut, Models
from headwater_edge.detection.points import Floats, Ints, Mask, Points
from headwater_edge.detection.river_models import maker
from headwater_edge.detection.specs import Spec, words
from headwater_edge.detection.unpickle import unpickled

_FEW = 10
"""Windows that a model learns before it is asked for a score."""
_SOON = 10_000
"""Windows after which a model that has never given a score has failed: a long season had its time."""
_NONE: dict[str, float] = {}
Features = list[dict[str, float]] | None
"""Of a series there are none but its value."""


class River(Detector):
    """One model a row."""

    KEPT = {"learnt": 0, "scored": False}
    ONE_BY_ONE = True
    LEARNS_AS_IT_SCORES = True
    learnt: Ints
    scored: Mask
    """It has given a score other than 0, with which River's models begin."""

    def __init__(self, spec: Spec) -> None:
        """Raise SettingsError or PartMissing: see `river_models.maker`."""
        super().__init__()
        self.name = spec.use
        self.spec = words(spec)
        self.metrics = spec.metrics
        self._make, self._judges = maker(spec)
        self._one_by_one = (
            (_values_with_features if self.metrics else _values)
            if self._judges
            else (_features if self.metrics else _one_feature)
        )
        self._models: list[Any] = []
        self._seen: _Seen | None = None
        self._cuts: list[Cut] = []
        self.lost: dict[str, int] = {}
        """Models of a snapshot that could not be taken up and are learnt anew, by the reason."""

    def score(self, points: Points) -> Floats:
        """Return what River says, and let each model learn its window; NaN for the first windows, and for what is not there."""
        seen = self._seen = self._see(points)
        asked = seen
        if seen.learnt.min(initial=_FEW) < _FEW:
            ready = seen.learnt >= _FEW
            asked = seen.take(ready)
            self._learn(seen.take(~ready))
        found, errors = self._ask(asked)
        self.learnt[seen.row] = seen.learnt + 1
        row = asked.row
        scored = self.scored[row]
        if errors or not scored.all() or not np.isfinite(found).all():
            found[~scored & (found == 0)] = np.nan
            for at in np.flatnonzero(~np.isfinite(found)).tolist():
                if scored[at] or asked.learnt[at] >= _SOON or np.isinf(found[at]):
                    self.failures.setdefault(int(row[at]), errors.get(at, "its score is not a number"))
            found[np.isinf(found)] = np.nan
            self.scored[row] = scored | ~np.isnan(found)
        if len(row) == len(points):
            return found
        score = np.full(len(points), np.nan)
        score[np.searchsorted(points.row, row)] = found
        return score

    def learn(self, points: Points) -> None:
        """Let each model learn its window, if `score` has not done so just before."""
        seen, self._seen = self._seen, None
        if seen is None or seen.points is not points:
            seen = self._see(points)
            self._learn(seen)
            self.learnt[seen.row] = seen.learnt + 1

    def words(self, points: Points, at: int) -> str:
        """Say what it knows; River gives no reason."""
        return f"{self.name}: unlike the {self.learnt[points.row[at]] - 1} windows that it had learnt"

    def grow(self, rows: int) -> None:
        super().grow(rows)
        self._models += [None] * (rows - len(self._models))

    def forget(self, rows: Ints) -> None:
        super().forget(rows)
        for row in rows.tolist():
            self._models[row] = None

    def bytes_of_a_row(self) -> float:
        """Return about how many bytes a model is in a snapshot, as those that are there now."""
        there = islice((one for one in self._models if one is not None), _FEW)
        return fmean([len(pickle.dumps(one, 5)) for one in there] or [0.0])

    def dump(self) -> dict[str, Any]:
        """Return copies of the columns, and the models as they are now, to be pickled by and by."""
        there = {row: model for row, model in enumerate(self._models) if model is not None}
        cut = Cut(self.spec, {row: self._called(row) for row in there}, there)
        self._cuts.append(cut)
        return {**super().dump(), "models": cut}

    def load(self, columns: dict[str, Any]) -> None:
        """Take up columns and models; what cannot be taken up is learnt anew, and `lost` says why."""
        super().load(columns)
        models = columns.get("models")
        if not isinstance(models, Models) or models.spec != self.spec:
            raise ValueError(f"the snapshot has no models for the detector {self.name!r}")
        models.some(math.inf)
        self.lost = dict(models.lost)
        for row, one in models.pickles.items():
            if row >= self.rows or models.names[row] != self._called(row):
                self._lose("it is of another series")
                continue
            try:
                self._models[row] = unpickled(one)
            except pickle.UnpicklingError as error:
                self._lose(str(error))
        blank = np.array([model is None for model in self._models], np.bool_)
        without = int((self.learnt[blank] > 0).sum()) - sum(self.lost.values())
        if without > 0:
            self.lost["it was written without a key"] = without
        self.forget(np.flatnonzero(blank))

    def _lose(self, why: str) -> None:
        self.lost[why] = self.lost.get(why, 0) + 1

    def _called(self, row: int) -> str:
        return self.names[row] if row < len(self.names) else f"row {row}"

    def _see(self, points: Points) -> _Seen:
        """Take the windows apart for River; a picture that is being taken has these models first."""
        whole = True
        if self.metrics:
            there = np.isfinite(points.value)
            some = there[:, 0] if self._judges else there.any(axis=1)
            if not some.all():
                seen = self._see(points.take(some))
                seen.points = points
                return seen
            whole = bool(there.all())
        learnt = self.learnt[points.row]
        all_of_them = len(learnt) == self.rows and learnt.min(initial=1) > 0 and not self._cuts
        if all_of_them:  # as they mostly are where it must be quick
            return _Seen(
                points, points.row, learnt, self._models, *self._features(points.value.tolist(), whole=whole)
            )
        rows = points.row.tolist()
        if self._cuts:
            for cut in self._cuts:
                cut.before(rows)
            self._cuts = [cut for cut in self._cuts if not cut.is_whole]
        if not learnt.all():  # only those may have none yet
            for row in rows:
                if self._models[row] is None:
                    self._models[row] = self._make(self._called(row))
        models = list(map(self._models.__getitem__, rows))
        return _Seen(points, points.row, learnt, models, *self._features(points.value.tolist(), whole=whole))

    def _features(self, values: list[Any], *, whole: bool) -> tuple[Features, list[float]]:
        """Return what models are given: x and y of each row."""
        if not self.metrics:
            return None, values
        names = self.metrics
        x = [dict(zip(names, row, strict=True)) for row in values]
        if not whole:
            x = [{name: v for name, v in one.items() if not math.isnan(v)} for one in x]
        if self._judges:
            return x, [one.pop(names[0]) for one in x]
        return x, [0.0] * len(x)

    def _ask(self, seen: _Seen) -> tuple[Floats, dict[int, str]]:
        """Ask each model for its score, and let it learn, while it is in the processor's cache.

        Returns:
            scores, NaN where one raised, and what it raised, by place; what `learn_one` raised is in `failures`.
        """
        scores: list[float] = []
        errors: dict[int, str] = {}
        models = iter(seen.models)
        todo = seen.beside(models)
        while True:
            try:
                self._one_by_one(todo, scores.append)
                break
            except Exception as error:  # noqa: BLE001 - of one series; the others go on
                at = len(seen.models) - length_hint(models) - 1
                if len(scores) > at:  # it has given its score, and could not learn
                    self.failures[int(seen.row[at])] = _raised(error)
                    continue
                errors[at] = _raised(error)
                scores.append(math.nan)
                self._learn(seen.take(np.arange(len(seen.models)) == at))
        return np.fromiter(scores, np.float64, len(scores)), errors

    def _learn(self, seen: _Seen) -> None:
        for row, one in zip(seen.row.tolist(), seen.beside(seen.models), strict=True):
            try:
                self._one_by_one([one], None)
            except Exception as error:  # noqa: BLE001 - as above
                self.failures[row] = _raised(error)


Todo = Iterable[tuple[Any, ...]]
"""Model, y, and x where there are several metrics."""
Put = Callable[[float], None] | None
"""Takes scores; without it nothing is asked for."""


def _values(todo: Todo, put: Put) -> None:
    x = _NONE
    if put is None:
        for model, y in todo:
            model.learn_one(x, y)
        return
    for model, y in todo:
        put(model.score_one(x, y))
        model.learn_one(x, y)


def _values_with_features(todo: Todo, put: Put) -> None:
    for model, y, x in todo:
        if put is not None:
            put(model.score_one(x, y))
        model.learn_one(x, y)


def _features(todo: Todo, put: Put) -> None:
    for model, _, x in todo:
        if put is not None:
            put(model.score_one(x))
        model.learn_one(x)


def _one_feature(todo: Todo, put: Put) -> None:
    for model, value in todo:
        x = {"value": value}
        if put is not None:
            put(model.score_one(x))
        model.learn_one(x)


def _raised(error: Exception) -> str:
    return f"it raised {type(error).__name__}: {error}"


class RiverOfDevices(River):
    """One model a device, over several of its metrics."""

    WHOLE_DEVICES = True


class _Seen:
    """Points taken apart for River: those that have something to say."""

    __slots__ = ("learnt", "models", "points", "row", "x", "y")

    def __init__(
        self, points: Points, row: Ints, learnt: Ints, models: list[Any], x: Features, y: list[float]
    ) -> None:
        self.points, self.row, self.learnt = points, row, learnt
        self.models, self.x, self.y = models, x, y

    def beside(self, models: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        """Put what models are given beside them."""
        if self.x is None:
            return zip(models, self.y, strict=True)
        return zip(models, self.y, self.x, strict=True)

    def take(self, mask: Mask) -> _Seen:
        at = np.flatnonzero(mask).tolist()
        x = None if self.x is None else [self.x[each] for each in at]
        models, y = [self.models[each] for each in at], [self.y[each] for each in at]
        return _Seen(self.points, self.row[mask], self.learnt[mask], models, x, y)


def river(spec: Spec) -> River:
    """Make the detector of a spec.

    Raises:
        SettingsError, PartMissing: see `river_models.maker`.
    """
    return RiverOfDevices(spec) if spec.metrics else River(spec)
