"""Writes `tests/fault/REPORT.md`: `python -m tests.fault.report [RECORDED]`, at the end of `make fault`. But for its figures it follows from
the tests alone.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.fault import recorded
from tests.fault.covered import NOT_YET, PAINS, RULES, by_key
from tests.fault.recorded import Audited, Line

REPORT = Path(__file__).parent / "REPORT.md"
_SHOWN = 6
"""Tests of one rule that are named; of more the number is said."""
_HEAD = """# What the fault bench found

Written by `make fault` (`python -m tests.fault.report`); not to be edited. The judge is the fleet's ledger against the stored windows, by
count and digest: *lost* and *twice* must be 0 in every row. How each thing is promised stands in docs/guarantees.md.
"""


def written(lines: Iterable[Line]) -> str:
    """Return the report's text."""
    tests = by_key()
    parts = [
        _HEAD,
        "## Faults, and what became of the readings\n",
        *_figures(lines),
        "\n## The rules of CORRECTNESS.md\n",
        *_table("rule", {f"R{n}": (f"R{n}", text) for n, text in RULES.items()}, tests),
        "\n## The rows of PAINS.md\n",
        *_table("pain", {f"pain {n}": (str(n), text) for n, text in PAINS.items()}, tests),
    ]
    return "\n".join(parts) + "\n"


def _figures(lines: Iterable[Line]) -> Iterator[str]:
    by_fault: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_fault[line.fault].append(line)
    yield "| fault | audits | injected | readings acknowledged | counted | dead | undecided | altered | lost | twice |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for fault in sorted(by_fault):
        yield _row(fault, by_fault[fault])
    yield _row("**all**", [line for some in by_fault.values() for line in some])


def _row(name: str, lines: list[Line]) -> str:
    def total(field: str) -> int:
        return sum(getattr(line.audited, field) for line in lines)

    fields = ("acknowledged", "counted", "dead", "undecided", "altered", "lost", "twice")
    assert set(fields) == set(Audited.__struct_fields__)
    numbers = [len(lines), sum(line.times for line in lines), *map(total, fields)]
    return f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |"


def _table(head: str, rows: dict[str, tuple[str, str]], tests: dict[str, list[str]]) -> Iterator[str]:
    yield f"| {head} | what | tests |"
    yield "| --- | --- | --- |"
    for key, (short, text) in rows.items():
        yield f"| {short} | {text} | {_tests(tests[key], NOT_YET.get(key, ''))} |"


def _tests(names: list[str], reason: str) -> str:
    found = [f"`{name}`" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        found.append(f"and {len(names) - _SHOWN} more")
    if reason:
        found.append(f"not yet{' all' if names else ''}: {reason}")
    return "<br>".join(found)


def main(arguments: list[str]) -> int:
    """Write the report; 1 if something was lost or counted twice."""
    file = Path(arguments[0]) if arguments else None
    lines = list(recorded.lines(file)) if file is not None and file.exists() else []
    REPORT.write_text(written(lines))
    bad = [line for line in lines if not line.audited.good]
    for line in bad:
        print(f"{line.test}: {line.fault}: {line.audited}")
    print(f"{REPORT}: {len(lines)} audits, {sum(line.times for line in lines):,} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
