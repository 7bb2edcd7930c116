"""A model that was trained elsewhere, over many series or devices at once: one call of onnxruntime a round."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.detector import Detector
from headwater_edge.detection.onnx_manifest import Fixed
from headwater_edge.detection.onnx_model import FAR, Judged, Model, Singles, misses, scaled
from headwater_edge.detection.onnx_words import blamed, words_of
from headwater_edge.detection.points import Floats, Ints, Points
from headwater_edge.recent import NEVER

_FADING = 0.05
"""What a window adds to what is usual: words need no more than about twenty of them."""
_LEAST = 1e-9
_COLUMNS = {"mean": "value", "low": "low", "high": "high", "spread": "spread"}


class _Seen(NamedTuple):
    """What `score` found of some points; `learn` and `words` need it again."""

    points: Points
    past: Singles
    """Windows before these, scaled, NaN where there is none; shape (n, kept windows, channels)."""
    newest: Singles
    """These windows, scaled, likewise; shape (n, channels)."""
    judged: Judged


class OnnxDetector(Detector):
    """What a model says of the last windows of each series or device, which are kept as the model sees them: scaled, as float32."""

    ring: Singles
    """The windows before the next one, the oldest first; NaN where there was none; shape (rows, kept windows, channels)."""
    last: Ints
    """Start of the newest of them."""
    usual: Singles
    """Exponentially weighted mean of how far each channel is off (of scores: of the score), NaN at first; shape (rows, channels or 1)."""
    seen: Ints
    """Of own scaling: windows in centre and squares, at most as many as the manifest asks for; shape (rows, channels)."""
    centre: Floats
    """Their mean."""
    squares: Floats
    """Sum of squares of their distances to it (Welford 1962)."""
    spread: Singles
    """Their standard deviation, NaN until there are as many as the manifest asks for."""
    model_id: Ints
    """The first 8 bytes of the model's SHA-256: what was learnt under another model is not taken up."""

    def __init__(self, model: Model) -> None:
        of = self.of = model.manifest
        self.model = model
        self.metrics = of.metrics
        self.length_us = of.length_us
        self.WHOLE_DEVICES = bool(of.metrics)
        channels = of.channels
        self.kept = of.windows if of.output == "forecast" else of.windows - 1
        """Windows in the ring of a row."""
        self.KEPT = {
            "model_id": np.int64(int.from_bytes(bytes.fromhex(model.sha256)[:8], "little", signed=True)),
            "last": NEVER,
            "ring": np.full((self.kept, channels), np.nan, np.float32),
            "usual": np.full(1 if of.output == "score" else channels, np.nan, np.float32),
        }
        self._fixed: tuple[Floats, Floats] | None = None
        self._own_windows = 0
        if isinstance(of.scaling, Fixed):
            centre, spread = np.array(of.scaling.centre), np.array(of.scaling.spread)
            self._fixed = centre, spread
            self._furthest = centre - FAR * spread, centre + FAR * spread
        else:
            self._own_windows = of.scaling.windows
            self.KEPT |= {
                "seen": np.zeros(channels, np.int64),
                "centre": np.zeros(channels),
                "squares": np.zeros(channels),
                "spread": np.full(channels, np.nan, np.float32),
            }
        self._last_seen: _Seen | None = None
        super().__init__()

    def grow(self, rows: int) -> None:
        """Make room for so many rows; the ring stays one piece of memory, whose rows are side by side."""
        super().grow(rows)
        self.ring = np.ascontiguousarray(self.ring)

    def score(self, points: Points) -> Floats:
        """Return the model's scores; NaN where more is missing than the manifest allows."""
        newest = self._scaled(points)
        past = self._past(points)
        if self.of.output == "forecast":
            inputs = past
        elif self.of.windows == 1:
            inputs = newest
        else:
            inputs = np.empty((len(points), self.of.windows, self.of.channels), np.float32)
            inputs[:, :-1], inputs[:, -1] = past, newest
        judged = self.model.judge(inputs.reshape(len(points), self.of.inputs), newest)
        self._last_seen = _Seen(points, past, newest, judged)
        return judged.score

    def learn(self, points: Points) -> None:
        """Take the windows into ring, scaling and what is usual."""
        seen, at = self._seen_of(points), self._at(points.row)
        self._last_seen = None
        self._take_usual(at, seen.judged)
        if self._fixed is None and self.seen[at].min(initial=self._own_windows) < self._own_windows:
            self._take_scale(points.row, self._values(points))
        if seen.past is self.ring:
            # One move of memory for all rows; what comes into each from the next is its newest window, written below.
            flat, channels = self.ring.reshape(-1), self.of.channels
            flat[:-channels] = flat[channels:]
        elif self.kept:
            self.ring[points.row, :-1] = seen.past[:, 1:]
        if self.kept:
            self.ring[at, -1] = seen.newest
        self.last[at] = points.start

    def words(self, points: Points, at: int) -> str:
        """Say what is how many times further off than usual."""
        seen = self._seen_of(points)
        row = points.row[at : at + 1]
        centre, spread = (np.broadcast_to(one, (1, self.of.channels))[0] for one in self._scale(row))
        return words_of(
            self.of, self.name, float(seen.judged.score[at]), seen.judged.off[at], self.usual[row[0]],
            seen.newest[at] * spread + centre, spread,
        )  # fmt: skip

    def blames(self, points: Points, at: int) -> int:
        """Return the metric that adds the most to the score beyond what it does as a rule."""
        if self.of.output == "score":
            return super().blames(points, at)
        return blamed(self._seen_of(points).judged.off[at], self.usual[points.row[at]]) // len(self.of.values)

    def load(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take up the columns of a snapshot.

        Raises:
            ValueError: they are not this detector's, or were learnt under another model.
        """
        own = np.int64(self.KEPT["model_id"])
        found = columns.get("model_id")
        if found is None or (found != own).any():
            raise ValueError(f"the model of {self.name!r} is another one than in the snapshot")
        super().load(columns)

    def _seen_of(self, points: Points) -> _Seen:
        """Return what `score` found of these points."""
        if self._last_seen is None or self._last_seen.points is not points:
            self.score(points)
        assert self._last_seen is not None
        return self._last_seen

    def _values(self, points: Points) -> Floats:
        """Return what the manifest names of each window; shape (n, channels)."""
        found: list[Floats] = [getattr(points, _COLUMNS[name]) for name in self.of.values]
        if len(found) == 1:
            return found[0].reshape(len(points), -1)
        return np.stack(found, axis=-1).reshape(len(points), -1)

    def _at(self, row: Ints) -> slice | Ints:
        """Return what selects these rows: a slice if they are all, for then nothing need be copied."""
        return slice(None) if len(row) == self.rows else row

    def _scale(self, at: slice | Ints) -> tuple[Any, Any]:
        """Return centre and spread of rows."""
        return self._fixed or (self.centre[at], self.spread[at])

    def _scaled(self, points: Points) -> Singles:
        values = self._values(points)
        if self._fixed is None:
            return scaled(values, *self._scale(self._at(points.row)))
        # As `scaled`, but cut off first: nothing can overflow, in fewer passes.
        values = np.clip(values, *self._furthest)
        values -= self._fixed[0]
        values /= self._fixed[1]
        return values.astype(np.float32)

    def _past(self, points: Points) -> Singles:
        """Return the windows before these; the ring itself, not a copy, if each row has one and none is missing between."""
        at = self._at(points.row)
        ring = self.ring if isinstance(at, slice) else self.ring[at]
        since = points.start - self.last[at]
        if not self.kept or np.maximum.reduce(since, initial=0) < 2 * points.length_us:
            return ring
        ring = ring.copy()
        for one in np.flatnonzero(since >= 2 * points.length_us).tolist():
            there = max(0, self.kept + 1 - int(since[one]) // points.length_us)
            ring[one, :there] = ring[one, self.kept - there :].copy()
            ring[one, there:] = np.nan
        return ring

    def _take_usual(self, at: slice | Ints, judged: Judged) -> None:
        usual, off = self.usual[at], np.abs(judged.off)
        away = off - usual
        away *= _FADING
        if judged.whole and not misses(away):
            usual += away
        else:
            away = np.where(np.isnan(usual), off, usual + away)
            usual = np.where(np.isnan(judged.score)[:, None], usual, away)
        if usual.base is not self.usual:
            self.usual[at] = usual

    def _take_scale(self, row: Ints, values: Floats) -> None:
        """Learn from the first windows of each channel, as many as the manifest asks for."""
        at, channel = np.nonzero((self.seen[row] < self._own_windows) & ~np.isnan(values))
        if not len(at):
            return
        cell = (row[at], channel)
        value, seen = values[at, channel], self.seen[cell] + 1
        off = value - self.centre[cell]
        centre = self.centre[cell] + off / seen
        squares = self.squares[cell] + off * (value - centre)
        self.seen[cell], self.centre[cell], self.squares[cell] = seen, centre, squares
        deviation = np.sqrt(np.maximum(squares, 0.0) / seen)
        least = np.maximum(np.abs(centre) * _LEAST, _LEAST)  # of a series that did not move
        self.spread[cell] = np.where(seen >= self._own_windows, np.maximum(deviation, least), np.nan)
