"""How a stack's demo ends: the store has caught up, and what the store, the panels, Prometheus and Alertmanager say is told and judged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from headwater_appliance.demo_stack import Stack
from headwater_appliance.demo_stack_query import get, promql
from headwater_appliance.demo_stack_story import StackStory

_SETTLED_S = 40.0
_RIGHT = {
    "Watchdog": "the dead man's switch, which always does",
    "HeadwaterAgentDeadLetters": "pumps send what cannot be read",
}
"""Alerts of Prometheus' that fire in a demo, and why they should."""


class Verdict(NamedTuple):
    """What is told, and what of it should not be."""

    lines: list[str]
    wrong: list[str]


async def settled(story: StackStory, until_us: int, say: Callable[[], None]) -> None:
    """Wait until the store has every alert as it stands, and the webhook heard of the end of those that are over.

    Args:
        story: knows both.
        until_us: the end of the fleet: alerts that begin later are of pumps that are no longer there.
        say: is called again and again: it tells what came.
    """
    deadline = time.monotonic() + _SETTLED_S
    while story.missing(until_us) and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
        say()


def verdict(stack: Stack, story: StackStory, until_us: int, processes: int) -> Verdict:
    """Ask all of them; this takes some seconds.

    Args:
        stack: the servers.
        story: what was told meanwhile.
        until_us: the end of the fleet, up to which panels show it.
        processes: that Prometheus is to scrape.

    Raises:
        TryAgain: one of them does not answer.
    """
    story.look(until_us)
    found = [
        _of_panels(story),
        _of_prometheus(stack, processes),
        _of_calls(story, until_us),
    ]
    return Verdict([line for one in found for line in one.lines], [line for one in found for line in one.wrong])  # fmt: skip


def _of_panels(story: StackStory) -> Verdict:
    panels = story.panels
    shown: dict[str, Counter[bool]] = {}
    for (dashboard, _, _), had in panels.had.items():
        shown.setdefault(dashboard, Counter())[had] += 1
    lines = [f"  {name}: {count[True]} of {count.total()} queries of its panels had rows" for name, count in shown.items()]  # fmt: skip
    empty = dict.fromkeys(panel for (_, panel, _), had in panels.had.items() if not had)
    if empty:
        lines.append(f"    nothing to show: {', '.join(empty)}")
    return Verdict(lines, panels.wrong)


def _of_prometheus(stack: Stack, processes: int) -> Verdict:
    url = stack.prometheus.url
    up = sum(value == 1 for _, value in promql(url, 'up{job="headwater"}'))
    groups = msgspec.json.decode(get(url, "/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    sick = [f"{rule['name']}: {rule.get('lastError', '')}" for rule in rules if rule["health"] == "err"]
    firing = {labels["alertname"] for labels, _ in promql(url, 'ALERTS{alertstate="firing"}')}
    pending = {labels["alertname"] for labels, _ in promql(url, 'ALERTS{alertstate="pending"}')}
    lines = [
        f"  Prometheus scrapes {up} of {processes} processes, and has {len(rules)} rules loaded; of these fire:",
        *(f"    {name}: {_RIGHT.get(name, 'it should not')}" for name in sorted(firing)),
    ]
    if pending:
        lines.append(f"    pending: {', '.join(sorted(pending))}")
    wrong = [f"the rule {one}" for one in sick]
    wrong += [f"Prometheus' alert {name} fires, and all is well" for name in sorted(firing - _RIGHT.keys())]
    if up < processes:
        wrong.append(f"Prometheus scrapes {up} processes, there are {processes}")
    return Verdict(lines, wrong)


def _of_calls(story: StackStory, until_us: int) -> Verdict:
    heard = ", ".join(f"{name} {count}" for name, count in sorted(story.calls.items()))
    return Verdict([f"  Alertmanager called, alerts by receiver: {heard or 'nobody'}"], [f"missing: {one}" for one in story.missing(until_us)])  # fmt: skip
