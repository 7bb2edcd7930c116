"""A model's manifest, FILE.toml beside FILE.onnx: what goes into it, what comes out, and what it must say to be believed.

The model's input is one row of float32 a series (or a device): its windows, the oldest first; of each window its metrics in
their order, of each metric its values in their order; scaled. docs/models.md has every key.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Duration, Section, duration, load

MOST_INPUTS = 4096
"""A day of windows of a minute is 1,440."""

Value = Literal["mean", "low", "high", "spread"]


class Fixed(Section, frozen=True, forbid_unknown_fields=True, tag="fixed", tag_field="by"):
    """The same for all: (value - centre) / spread."""

    centre: Annotated[
        tuple[float, ...], Meta(description="What is taken off each value of one window, in order.")
    ]
    spread: Annotated[tuple[float, ...], Meta(description="What each is divided by then.")]


class Own(Section, frozen=True, forbid_unknown_fields=True, tag="own", tag_field="by"):
    """By mean and standard deviation of each series' own first windows; it has no score before."""

    windows: Annotated[int, Meta(ge=2, le=1_000_000, description="How many of them; whole days are best.")]


class Missing(Section, frozen=True, forbid_unknown_fields=True):
    """Windows, or metrics of a device, that are not there."""

    fill: Annotated[
        Literal["centre", "last"],
        Meta(description="What stands for them: the centre of the scaling, or the window before."),
    ] = "centre"
    most: Annotated[
        int, Meta(ge=0, description="How many inputs may be missing; with more there is no score.")
    ] = 0


class Golden(Section, frozen=True, forbid_unknown_fields=True):
    """An input and the score that the model must give it."""

    input: Annotated[
        tuple[float, ...],
        Meta(description="All inputs before scaling (with own scaling: after it), nan for a missing one."),
    ]
    score: Annotated[float, Meta(description="What comes out.")]
    next: Annotated[
        tuple[float, ...], Meta(description="Of a forecast: the window that came, like the input.")
    ] = ()


class Manifest(Section, frozen=True, forbid_unknown_fields=True):
    """The table `[model]`."""

    opset: Annotated[int, Meta(description="Of ONNX, that the file was exported for.")]
    level: Annotated[Duration, Meta(description='Length of the windows that it was trained on: "1m".')]
    output: Annotated[
        Literal["reconstruction", "forecast", "score"],
        Meta(
            description="What comes out: the input again, the window that comes next, or one number, larger for what is stranger."
        ),
    ]
    golden: Annotated[
        tuple[Golden, ...],
        Meta(min_length=1, max_length=100, description="What it must reproduce when it is loaded."),
    ]
    scaling: Annotated[Fixed | Own, Meta(description="What is done to values before they go in.")]
    metrics: Annotated[
        tuple[str, ...],
        Meta(description="Those of a device, in order; none: the model looks at one series at a time."),
    ] = ()
    values: Annotated[
        tuple[Value, ...],
        Meta(min_length=1, max_length=4, description="Of each window: mean, low, high, spread, in order."),
    ] = ("mean",)
    windows: Annotated[int, Meta(ge=1, description="How many of them go in, the newest last.")] = 1
    missing: Annotated[Missing, Meta(description="What is done about windows that are not there.")] = (
        Missing()
    )
    output_name: Annotated[str, Meta(description="Which output of the file, if there are several.")] = ""
    tolerance: Annotated[
        float,
        Meta(
            gt=0,
            le=0.1,
            description="How far a golden score may be off, as a share of it (below 1: in itself).",
        ),
    ] = 1e-4
    about: Annotated[str, Meta(description="In words: what it knows, from what it was made.")] = ""

    @property
    def channels(self) -> int:
        """How many values of one window go in."""
        return max(1, len(self.metrics)) * len(self.values)

    @property
    def inputs(self) -> int:
        """How many values go in."""
        return self.windows * self.channels

    @property
    def outputs(self) -> int:
        """How many come out."""
        return {"reconstruction": self.inputs, "forecast": self.channels, "score": 1}[self.output]

    @property
    def length_us(self) -> int:
        """Of the windows that it was trained on."""
        return duration(self.level)


def read(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        SettingsError: something in it is wrong.
    """
    manifest = load(path, "model", Manifest, known=("model",))
    for wrong, hint in _mistakes(manifest):
        raise SettingsError(f"{path}: {wrong}", hint=hint)
    return manifest


def _mistakes(of: Manifest) -> list[tuple[str, str]]:
    """Return what the types leave open: each mistake, and what to do."""
    found = []
    if len(set(of.metrics)) < len(of.metrics) or len(set(of.values)) < len(of.values):
        found.append(("a metric or a value stands there twice", "name each once, in the order of the input"))
    if of.inputs > MOST_INPUTS:
        found.append((f"{of.inputs:,} inputs are too many", f"at most {MOST_INPUTS:,}: fewer windows"))
    if isinstance(of.scaling, Fixed):
        both = (of.scaling.centre, of.scaling.spread)
        if any(len(one) != of.channels for one in both) or not all(map(math.isfinite, sum(both, ()))):
            found.append(
                (
                    f"scaling needs {of.channels} centres and spreads",
                    "one for each value of one window, in order",
                )
            )
        if any(one <= 0 for one in of.scaling.spread):
            found.append(("a spread of the scaling is not above 0", "for a value that never moves: 1"))
    if of.missing.most >= of.inputs:
        found.append(
            (f"missing.most must be below {of.inputs}, the inputs", "a model needs something to go by")
        )
    if of.missing.fill == "last" and of.windows == 1:
        found.append(('missing.fill = "last" needs several windows', 'fill = "centre"'))
    for number, golden in enumerate(of.golden, 1):
        found += _golden_mistakes(of, golden, f"golden vector {number}")
    return found


def _golden_mistakes(of: Manifest, golden: Golden, name: str) -> list[tuple[str, str]]:
    found = []
    next_ones = of.channels if of.output == "forecast" else 0
    if len(golden.input) != of.inputs:
        found.append((f"{name} has {len(golden.input)} inputs instead of {of.inputs}", "oldest window first"))
    if len(golden.next) != next_ones:
        found.append(
            (f"{name} has {len(golden.next)} values in `next` instead of {next_ones}", "of forecasts only")
        )
    if not math.isfinite(golden.score) or any(map(math.isinf, golden.input + golden.next)):
        found.append((f"{name} holds what is no number", "nan stands for a missing input only"))
    if sum(map(math.isnan, golden.input)) > of.missing.most or (
        next_ones and all(map(math.isnan, golden.next))
    ):
        found.append((f"{name} misses more than missing.most", "there is no score then"))
    return found
