"""What ships for Prometheus: promtool reads it, each rule fires and is silent, names what exists, and has a page; a real Prometheus runs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headwater_appliance.metrics_page import everything
from headwater_appliance.stack_servers import find
from tests.support import ROOT, part_required

_YAML = YAML(typ="safe")
PROMETHEUS = ROOT / "deploy" / "prometheus"
GROUPS = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULES = [rule for path in GROUPS for group in _YAML.load(path)["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
_OF_OTHERS = {"up", "process_start_time_seconds"}
"""Metrics of Prometheus itself and of its client."""


def _promtool(*words: str) -> str:
    part_required("prometheus")
    done = subprocess.run(
        [find("promtool", "prometheus"), *words], cwd=PROMETHEUS / "tests", capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_reads_the_settings_and_the_rules() -> None:
    """`promtool check config` and `check rules` find nothing wrong."""
    assert "is valid prometheus config" in _promtool("check", "config", "../prometheus.yml")
    for path in GROUPS:
        _promtool("check", "rules", str(path))


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_promtool_has_each_rule_fire_and_be_silent(path: Path) -> None:
    """The cases that ship beside the rules pass."""
    _promtool("test", "rules", path.name)


def test_no_rule_is_without_cases() -> None:
    """Each alert fires in one case, and is silent in another; only the dead man's switch is never silent."""
    firing, silent = set[str](), set[str]()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for case in _YAML.load(path)["tests"]:
            for asked in case["promql_expr_test"]:
                (name,) = re.findall(r'alertname="(\w+)"', asked["expr"])
                (firing if asked["exp_samples"] else silent).add(name)
    names = {rule["alert"] for rule in ALERTS}
    assert firing == names
    assert silent == names - {"Watchdog"}


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_says_what_a_person_needs(rule: dict[str, object]) -> None:
    """How severe it is, what is the matter, and a page that says what it means, what to look at and what to do."""
    labels, annotations = rule["labels"], rule["annotations"]
    assert isinstance(labels, dict)
    assert isinstance(annotations, dict)
    assert labels["source"] == "prometheus"
    assert labels["severity"] in ({"none"} if rule["alert"] == "Watchdog" else {"warning", "critical"})
    assert set(annotations) == {"summary", "description", "runbook_url"}
    page = (ROOT / annotations["runbook_url"]).read_text()
    assert page.startswith(f"# {rule['alert']}\n")
    assert f"Rule: `{rule['expr']}`" in page
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["What it means", "What to look at", "What to do"]
    assert f"]({Path(annotations['runbook_url']).name})" in (ROOT / "docs/runbooks/README.md").read_text()


def test_every_metric_that_a_rule_names_exists() -> None:
    """In a registry, or as a recording rule's result; with the labels that the rule asks for."""
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    known = {name + end for name in everything() for end in ("", "_bucket")}
    named = {
        name for rule in RULES for name in re.findall(r"\b(?:[a-z]+:)?headwater_\w+(?::\w+)?", rule["expr"])
    }
    assert named - known - recorded == set()
    others = {name for rule in ALERTS for name in re.findall(r"\b(up|process_\w+)\b", rule["expr"])}
    assert others <= _OF_OTHERS
