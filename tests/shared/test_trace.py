"""The trace context of records: W3C's grammar, the same in every rerun, handed on unchanged or not at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared import trace

GRAMMAR = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""Version 0 of https://www.w3.org/TR/trace-context/#traceparent-header-field-values."""
GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of the standard."""


@given(st.text())
def test_a_trace_is_made_by_the_grammar_out_of_the_identity(identity: str) -> None:
    """Ids that are not all zeros, sampled; the same for the same identity, another for another one."""
    found = GRAMMAR.fullmatch(trace.traceparent(identity))
    assert found
    assert all(int(word, 16) for word in found.groups())
    assert found[3] == "01"
    assert trace.traceparent(identity) == found[0]
    assert trace.traceparent(identity + "x")[3:35] != found[1]
    assert trace.of({"traceparent": found[0]}) == found[0]


def test_a_trace_stays_what_it_was() -> None:
    """A frame that is sent again by a later version has the trace that it had."""
    found = trace.traceparent("a1/0000000000000001/48/3")
    assert found == "00-bf1588cb637f1a92a396bba9664a8ecd-5a44e21b2d7ac3fb-01"


@pytest.mark.parametrize(
    "good", [GOOD, GOOD[:-1] + "0", "cc" + GOOD[2:], f"cc{GOOD[2:]}-what-the-future-brings"]
)
def test_a_trace_of_others_is_handed_on(good: str) -> None:
    """Of this version, and of later ones, which may say more."""
    assert trace.of({"traceparent": good}) == good


@pytest.mark.parametrize(
    "bad",
    ["", "x", GOOD.upper(), "ff" + GOOD[2:], GOOD + "-more", GOOD[:-1], GOOD + "\n", " " + GOOD, GOOD.replace("-", "_"),
     f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01"],
)  # fmt: skip
def test_what_breaks_the_grammar_is_no_trace(bad: str) -> None:
    """It is handed to nobody, as the standard wants."""
    assert trace.of({"traceparent": bad}) == ""
    assert trace.of({}) == ""
