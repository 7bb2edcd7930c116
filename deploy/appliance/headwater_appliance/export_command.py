"""`headwater export`: what is stored, for other programs: CSV, JSON lines or Parquet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Annotated, Literal

import msgspec
import typer

from headwater_appliance import export_forms
from headwater_appliance.box import AsJson, Box, SettingsFile, look_at
from headwater_cloud import export as exports
from headwater_cloud.export import Column, Rows
from headwater_cloud.history import EARLIEST, LATEST, History
from headwater_cloud.query import time_us
from headwater_shared import extras
from headwater_shared.errors import Refused

Kind = Literal["windows", "anomalies", "alerts", "dead-letters"]

_LETTERS = (
    Column("letter", "text"), Column("time", "time"), Column("reason", "text"), Column("detail", "text"), Column("topic", "text"),
    Column("payload", "bytes"), Column("not_taken", "text"),
)  # fmt: skip
_COLUMNS = {
    "windows": exports.WINDOWS, "anomalies": exports.ANOMALIES, "alerts": exports.ALERTS, "dead-letters": _LETTERS,
}  # fmt: skip


def export(
    what: Annotated[Kind, typer.Argument(help="windows, anomalies, alerts or dead-letters.")] = "windows",
    settings: SettingsFile = None,
    series: Annotated[
        str,
        typer.Option(
            help="Only series (or subjects, or topics of dead letters) that match; * and ? match any text, quote them."
        ),
    ] = "*",
    level: Annotated[str, typer.Option(help="Length of the windows.")] = "1m",
    since: Annotated[str, typer.Option("--from", help="From this time on (ISO 8601, UTC).")] = "",
    until: Annotated[str, typer.Option("--to", help="Before this time (ISO 8601, UTC).")] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A new file; *.parquet is Parquet. Standard output without.",
            dir_okay=False,
        ),
    ] = None,
    form: Annotated[
        Literal["csv", "json", "parquet"] | None,
        typer.Option("--format", help="csv unless the file's name says parquet or json."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what is stored for other programs, row by row, while the box runs: CSV, JSON lines, or Parquet.

    Numbers are exact: floats come back to the last bit, digests as 0x and 16 hex digits (uint64 in Parquet).
    """
    box = look_at(settings)
    chosen = "json" if as_json else form or _form_of(output)
    bounds = (time_us(since) if since else EARLIEST, time_us(until) if until else LATEST)
    if chosen == "parquet":
        if output is None:
            raise Refused("Parquet needs a file", hint="add --output windows.parquet")
        extras.load("pyarrow", "parquet")  # before anything is read
    if output is not None and output.exists():
        raise Refused(f"{output} is there already", hint="name a new file; nothing is written over")
    pages = _pages(box, what, level, series, bounds)
    if output is None:
        _to_stdout(lambda out: _written(chosen, _COLUMNS[what], pages, out))
        return
    count = _to_file(output, chosen, _COLUMNS[what], pages)
    print(f"wrote {count:,} {what.replace('-', ' ')} to {output}", file=sys.stderr)


def _pages(box: Box, what: Kind, level: str, series: str, bounds: tuple[int, int]) -> Iterator[Rows]:
    if what == "dead-letters":
        yield from _letters(box, series, *bounds)
        return
    with closing(History(box.cloud_file)) as history:
        if what == "windows":
            yield from exports.windows(history, level, series, *bounds)
        elif what == "anomalies":
            yield from exports.anomalies(history, series, *bounds)
        else:
            yield from exports.alerts(history, series, *bounds)


def _letters(box: Box, topic: str, from_us: int, to_us: int) -> Iterator[Rows]:
    """Yield dead letters of topics that match, the oldest first, a few hundred at a time: each may be large."""
    from headwater_edge import dead_letters
    from headwater_edge.store import read_store

    with closing(read_store(box.edge_file)) as reader:
        at = (-1, -1)
        while True:
            ids = reader.execute(
                "SELECT tick, n FROM dead_letter WHERE (tick, n) > (?, ?) AND time_us >= ? AND time_us < ? ORDER BY tick, n LIMIT 200",
                (*at, from_us, to_us),
            ).fetchall()
            if not ids:
                return
            at = ids[-1]
            yield [
                (
                    letter.name, letter.time_us, letter.reason, letter.detail, name, letter.body,
                    None if letter.readings is None else msgspec.json.encode(letter.readings).decode(),
                )
                for letter in dead_letters.find(reader, ids)
                if fnmatchcase(name := letter.topic.decode(errors="backslashreplace"), topic)
            ]  # fmt: skip


def _written(form: str, columns: tuple[Column, ...], pages: Iterator[Rows], out: IO[str]) -> int:
    write = export_forms.as_json if form == "json" else export_forms.as_csv
    return write(columns, pages, out)


def _to_file(output: Path, form: str, columns: tuple[Column, ...], pages: Iterator[Rows]) -> int:
    """Write a file that is there whole or not at all."""
    half = output.with_name(output.name + ".part")
    try:
        if form == "parquet":
            count = export_forms.as_parquet(columns, pages, half, exports.PAGE)
        else:
            with half.open("w", encoding="utf-8", newline="") as out:
                count = _written(form, columns, pages, out)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    half.replace(output)
    return count


def _to_stdout(write: Callable[[IO[str]], int]) -> None:
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _form_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix
    return {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(suffix, "csv")
