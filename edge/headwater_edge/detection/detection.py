"""All rules of detection over all series: what the windows that a tick closes begin and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headwater_edge.detection.judge import Found, Judge, under
from headwater_edge.detection.points import Ints
from headwater_edge.detection.rules import DetectRule
from headwater_edge.detection.specs import words
from headwater_edge.events import DetectorSlow
from headwater_edge.fine import Rows


class Detection:
    """One judge a rule."""

    def __init__(self, rules: Sequence[DetectRule]) -> None:
        self.judges = [Judge(rule) for rule in rules]
        self._clock_ns: Callable[[], int] | None = None

    def watch(self, clock_ns: Callable[[], int] | None) -> None:
        """Measure from now on how long detectors take, those of later settings, too."""
        self._clock_ns = clock_ns
        if clock_ns is not None:
            for judge in self.judges:
                judge.watch(clock_ns)

    def slow(self) -> list[DetectorSlow]:
        """Return what was found slow since the last call."""
        return [event for judge in self.judges for event in judge.slow()]

    def failures(self) -> list[str]:
        """Return what failed in this tick, in words."""
        return [failure for judge in self.judges for failure in judge.failures()]

    def set_aside(self, event: DetectorSlow, now_us: int) -> None:
        """A detector is slow, as was measured beside the step."""
        for judge in self.judges:
            if judge.rule.name == event.detect:
                judge.set_aside(event.detector, event.series, now_us)

    def grow(self, names: Sequence[str], device: Ints) -> None:
        """Make room for all series called so; those known before come first."""
        for judge in self.judges:
            judge.grow(names, device)

    def take_up(self, numbers: Sequence[int], names: Sequence[str], device: Ints) -> None:
        """Series have numbers of such as were let go; `names` and `device` by number."""
        for judge in self.judges:
            judge.take_up(numbers, names, device)

    def let_go(self, numbers: Ints) -> None:
        """Forget series."""
        for judge in self.judges:
            judge.let_go(numbers)

    def renumber(self, device: Ints) -> None:
        """Devices have other numbers; by series."""
        for judge in self.judges:
            judge.renumber(device)

    def busy(self) -> Ints:
        """Return the series that cannot be let go, for a window of theirs is still to be judged."""
        return np.concatenate([np.zeros(0, np.int64), *(judge.busy() for judge in self.judges)])

    def ends(self, numbers: Ints, text: str) -> list[Found]:
        """Return the ends of what is on in series that are to be let go."""
        return [end for judge in self.judges for end in judge.ends(text, numbers)]

    def take(self, closed: Mapping[str, Sequence[Rows]], mark: Ints, *, sealed: bool = False) -> list[Found]:
        """Judge windows.

        Args:
            closed: by the name of their level, what a tick closed.
            mark: watermark by series.
            sealed: a start, or other settings, closed them before their end.

        Returns:
            what began and ended, rule by rule.
        """
        return [
            found for judge in self.judges
            for found in judge.take(closed.get(judge.rule.level, ()), mark, sealed=sealed)
        ]  # fmt: skip

    def is_due(self, mark: Ints) -> bool:
        """Tell whether the passing of time alone lets a window be judged."""
        return any(judge.is_due(mark) for judge in self.judges)

    def followed_by(self, rules: Sequence[DetectRule], names: Sequence[str], device: Ints) -> Detection:
        """Return other rules over the same series; of a rule that stays as it is, but for severity and text, all that is known stays."""
        after = Detection(rules)
        former = {_what_it_does(judge.rule): judge for judge in self.judges}
        for at, judge in enumerate(after.judges):
            if (known := former.get(_what_it_does(judge.rule))) is not None:
                known.rule = judge.rule
                after.judges[at] = known
        after.grow(names, device)
        after.watch(self._clock_ns)
        return after

    def orphans(self, rules: Sequence[DetectRule]) -> list[Found]:
        """Return the ends of what is on now and would not be watched under other rules."""
        stay = {_what_it_does(rule) for rule in rules}
        gone = [judge for judge in self.judges if _what_it_does(judge.rule) not in stay]
        return [end for judge in gone for end in judge.ends("the rule is gone")]

    def anew(self, rules: Sequence[DetectRule]) -> list[str]:
        """Say which rules are there under the same name and learn anew under others."""
        stay, names = {_what_it_does(rule) for rule in rules}, {rule.name for rule in rules}
        return [
            f"[[edge.detect]] {judge.rule.name!r} learns anew: its series, level or detectors, or a file of these, changed"
            for judge in self.judges
            if judge.rule.name in names and _what_it_does(judge.rule) not in stay
        ]

    def dump(self) -> dict[str, Any]:
        """Return the columns for a snapshot."""
        return {
            f"{at}.{n}": column for at, judge in enumerate(self.judges) for n, column in judge.dump().items()
        }

    def load(self, columns: Mapping[str, Any], names: Sequence[str], device: Ints) -> list[str]:
        """Take up the columns of a snapshot, in which these series have numbers; return the names of the rules that learn anew, for its columns are of other detectors."""
        anew = []
        for at, judge in enumerate(self.judges):
            try:
                judge.load(under(str(at), columns), names, device)
            except (ValueError, KeyError):
                anew.append(judge.rule.name)
                self.judges[at] = Judge(judge.rule)
        self.grow(names, device)
        return anew


def _what_it_does(rule: DetectRule) -> tuple[str, ...]:
    return rule.name, rule.series, rule.level, *map(words, rule.detectors)
