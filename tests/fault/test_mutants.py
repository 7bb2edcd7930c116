"""The list of `make mutants` fits the tree: each text stands once, each test exists."""

from __future__ import annotations

import ast

import pytest

from tests.fault.mutants import Mutant, judged, mutants
from tests.support import ROOT

MUTANTS = mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_switched_off_stands_there_once_and_its_tests_exist(mutant: Mutant) -> None:
    """Else a change of the code would leave a mechanism untried, and nobody would know."""
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file()
        assert not name or f"def {name.partition('[')[0]}(" in (ROOT / path).read_text()


def test_at_least_thirty_mechanisms_of_at_least_twenty_rules() -> None:
    """Each with a name of its own."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
    assert len({mutant.rule for mutant in MUTANTS}) >= 20


@pytest.mark.parametrize(
    ("shift", "test", "verdict"),
    [
        ("29", "tests/shared/test_digest.py", "caught"),
        ("30 + 1", "tests/shared/test_digest.py", "survived"),
        ("29", "tests/shared/test_none.py", "broken"),
    ],
)
def test_a_mechanism_is_caught_where_its_test_fails(shift: str, test: str, verdict: str) -> None:
    """It survives where the test passes; where no test can run it is neither."""
    old = "_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)"
    new = old.replace("np.uint64(31)", f"np.uint64({shift})")
    one = Mutant("a shift of the mix", "R10", "shared/headwater_shared/digest.py", old, new, [test])
    assert judged(one).verdict == verdict
