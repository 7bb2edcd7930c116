"""The story of a demo: what breaks, how it is found and why, what the device is told, what it answers, and the end; a line each."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from headwater_appliance.lead import rarest
from headwater_appliance.view import View, fired_us
from headwater_cloud.history import History
from headwater_cloud.views import AlertView, CommandView
from headwater_shared.ledger import Names

_SAMPLES = 6
"""Of an anomaly, the last of which broke the limit."""


Said = tuple[int, list[str]]
"""When it was, microseconds, and the lines that tell it."""


class Story:
    """What happened since the last look, as lines in the order in which it is told: fault, anomaly, command, answer, end."""

    def __init__(self, view: View, ledger: Path, own: Sequence[str] = ("*",)) -> None:
        """Begin; `own`: globs of rules whose anomalies are alerts, of the others they are told as what they are."""
        self._view = view
        self._ledger = ledger
        self._own = own
        self._evidence: set[str] = set()
        self._faults: set[str] = set()
        self._commands: dict[str, str] = {}
        """What each command had become when last looked at."""

    def news(self, now_us: int) -> list[str]:
        """Return the lines since the last look, in the order of what they tell."""
        said = self._of_faults(now_us)
        history = self._view.history()
        if history is not None:
            said += [_of_alert(history, alert, line) for alert, line in self._view.news()]
            said += self._of_commands(history)
            said += self._of_evidence(history)
        return [line for _, lines in sorted(said, key=lambda one: one[0]) for line in lines]

    def _of_faults(self, now_us: int) -> list[Said]:
        """Say what the simulator broke: the truth, which nobody else is told."""
        said = []
        for fault in Names.read(self._ledger).faults:
            name = f"{fault['device']} {fault['kind']} {fault['begin_us']}"
            if name in self._faults or fault["begin_us"] > now_us:
                continue
            self._faults.add(name)
            what = f"{fault['site']}/{fault['device']}/{fault['metric'] or '*'}  {fault['kind']}"
            size = f" of {fault['size']:g}" if "size" in fault else ""
            line = f"        FAULT  {self._view.when(fault['begin_us'])}  {what}{size}, until {self._view.when(fault['end_us'])}"
            said.append((fault["begin_us"], [line]))
        return said

    def _of_commands(self, history: History) -> list[Said]:
        said: list[Said] = []
        for command in sorted(
            history.commands(), key=lambda one: not one.undoes
        ):  # what undoes goes before what is undone
            before = self._commands.get(command.id)
            if before == command.status:
                continue
            self._commands[command.id] = command.status
            if before is None and command.let_out_us:
                said.append((command.let_out_us, [self._told(command)]))
            if command.status != "open":
                said.append((command.changed_us, [self._became(command)]))
        return said

    def _of_evidence(self, history: History) -> list[Said]:
        """Tell of anomalies that are nobody's alert: evidence, for patterns."""
        said: list[Said] = []
        for found in history.anomalies():
            if found.phase != "begin" or found.id in self._evidence or self._is_alert(found.rule):
                continue
            self._evidence.add(found.id)
            line = f"        SEEN   {self._view.when(found.begin_us)}  {found.series}  {found.rule}: {found.text}"
            said.append((found.begin_us, [line]))
        return said

    def _is_alert(self, rule: str) -> bool:
        return any(fnmatchcase(rule, own) for own in self._own)

    def _told(self, command: CommandView) -> str:
        what = f"{command.name} {command.arguments}" if command.arguments != "{}" else command.name
        undo = "  (undoes the one before)" if command.undoes else ""
        return f"        TELL   {self._view.when(command.let_out_us)}  {command.device}  {what}  by {command.act or command.rule}{undo}"

    def _became(self, command: CommandView) -> str:
        why = f": {command.reason}" if command.reason else ""
        said = {"done": "it answers: done", "refused": "refused", "expired": "expired", "undone": "undone"}
        return f"        {command.status.upper():6} {self._view.when(command.changed_us)}  {command.device}  {command.name}  {said[command.status]}{why}"


def _of_alert(history: History, alert: AlertView, line: str) -> Said:
    if line.lstrip().startswith("ALERT"):
        return fired_us(alert), [line, *_why(history, alert, line)]
    return alert.time_us, [line]


def _why(history: History, alert: AlertView, line: str) -> list[str]:
    """Say what the rule saw: the limit, and the readings up to the one that broke it; of detectors the reason, and how rare that is."""
    of_series = history.anomalies(alert.subject)
    found = next((one for one in of_series if one.id == alert.id and one.phase == "begin"), None)
    if found is None:
        return []
    _, values = msgspec.json.decode(found.samples, type=tuple[list[int], list[float]])
    samples = " ".join(f"{value:g}" for value in values[-_SAMPLES:])
    if found.limit is None:
        reason = "" if found.text in line else f"{found.text}: "  # an alert that is over has lost it
        return [f"               because {reason}{rarest(found)}; its last readings: {samples}"]
    return [f"               because {found.value:g} is past {found.limit:g}; its last readings: {samples}"]
