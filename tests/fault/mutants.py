"""`make mutants`: each mechanism of promise 1 switched off in turn, in a copy of the tree; its test must fail, or it proves nothing.

`mutants.toml` has a mechanism a table: its rule, the file, the text that is replaced (it stands there once) and by what, and
the tests that catch it. Without the change all of them must pass, else a failure would mean nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.support import ROOT

FILE = Path(__file__).with_name("mutants.toml")
PARTS = ("shared", "edge", "cloud", "firmware-sim", "deploy/appliance")
"""The folders of the packages; in a copy they go before those of the environment."""
_SECONDS = 150.0
"""After which a mechanism that is off counts as caught: something waits for ever."""
_ALL_SECONDS = 3600.0
"""For the tests of all mechanisms one after the other, with every mechanism on."""
_PASSED, _FAILED = 0, 1
"""What pytest ends with; all else means that it could not run."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One mechanism, and how it is switched off."""

    name: str
    rule: str
    file: str
    old: str
    new: str
    tests: list[str]
    """Ids as pytest has them."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    mutant: list[Mutant]


class Verdict(NamedTuple):
    """What came of it: `caught`, `survived` or `broken` (the tests could not run)."""

    mutant: Mutant
    verdict: str
    seconds: float
    words: str


def mutants() -> list[Mutant]:
    """Read the list."""
    return msgspec.toml.decode(FILE.read_bytes(), type=_File).mutant


def switched_off(mutant: Mutant, root: Path) -> None:
    """Write the change into a tree.

    Raises:
        ValueError: the text does not stand there once.
    """
    path = root / mutant.file
    text = path.read_text()
    found = text.count(mutant.old)
    if found != 1:
        raise ValueError(f"{mutant.name}: the text stands {found} times in {mutant.file}, not once")
    path.write_text(text.replace(mutant.old, mutant.new))


def copied(to: Path) -> Path:
    """Copy what tests need: the files of git's tree as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def tried(root: Path, tests: Sequence[str], seconds: float = _SECONDS) -> tuple[int, str]:
    """Run tests against a copy; return how pytest ended, and its last words."""
    paths = [str(root), *(str(root / part) for part in PARTS)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "once",  # what is found need not be made small
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "fault or not fault",
    ]
    try:
        done = subprocess.run(
            [*command, *tests], cwd=root, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _FAILED, f"not over after {seconds:g} s"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def judged(mutant: Mutant) -> Verdict:
    """Switch one mechanism off, and run its tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headwater-mutant-") as folder:
        root = copied(Path(folder))
        switched_off(mutant, root)
        code, words = tried(root, mutant.tests)
    verdict = {_PASSED: "survived", _FAILED: "caught"}.get(code, "broken")
    return Verdict(mutant, verdict, time.monotonic() - began, words)


def main(words: Sequence[str]) -> int:
    """Judge those whose name holds one of the words, all without; return how many were not caught."""
    chosen = [one for one in mutants() if not words or any(word in one.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="headwater-mutant-") as folder:
        tests = sorted({test for one in chosen for test in one.tests})
        code, said = tried(copied(Path(folder)), tests, _ALL_SECONDS)
    print(f"{len(tests)} tests with every mechanism on: {said}", flush=True)
    if code != _PASSED:
        return 1
    left = 0
    with ThreadPoolExecutor(2) as pool:
        for one in pool.map(judged, chosen):
            left += one.verdict != "caught"
            print(
                f"{one.verdict:9} {one.mutant.rule:8} {one.mutant.name} ({one.seconds:.0f} s: {one.words})",
                flush=True,
            )
    print(f"{len(chosen)} mechanisms switched off, {len(chosen) - left} caught, {left} not")
    return left


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 100))
