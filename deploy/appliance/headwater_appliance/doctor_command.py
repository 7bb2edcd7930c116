"""`headwater doctor`: what could be wrong, looked at one by one, each with its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater_appliance.box import AsJson, SettingsFile
from headwater_appliance.shown import amount
from headwater_shared.errors import Refused

if TYPE_CHECKING:
    from headwater_appliance.doctor import Finding

_MARKS = {
    "good": ("ok", "green"),
    "note": ("note", "yellow"),
    "wrong": ("WRONG", "bold red"),
    "not-checked": ("-", "dim"),
}


def doctor(
    settings: SettingsFile = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Only this check; may be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, machine, files and what runs; say of each what is wrong and what to do. Nothing is changed.

    Exit code 0: nothing is wrong (notes or not); 1: something is. A box that does not run is wrong, so for a machine before its first
    start name the checks: --check settings --check data-folder ...
    """
    from headwater_appliance import doctor as doctors

    unknown = set(check or ()) - set(doctors.names())
    if unknown:
        raise Refused(
            f"there is no check {', '.join(sorted(unknown))}", hint=f"checks: {', '.join(doctors.names())}"
        )
    console = Console(highlight=False)
    found = []
    for one in doctors.examine(settings, check or ()):
        found.append(one)
        if as_json:
            print(msgspec.json.encode(one).decode(), flush=True)
        else:
            console.print(shown(one))
    wrong = sum(one.verdict == "wrong" for one in found)
    if not as_json:
        notes = sum(one.verdict == "note" for one in found)
        console.print(
            Text(
                f"\n{amount(wrong, 'thing')} wrong, {amount(notes, 'note')}"
                if wrong or notes
                else "\nall is well",
                "bold",
            )
        )
    raise typer.Exit(int(wrong > 0))


def shown(one: Finding) -> Table:
    """Write what a check found."""
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=5, no_wrap=True)
    line.add_column(width=12, no_wrap=True)
    line.add_column(overflow="fold")
    word, style = _MARKS[one.verdict]
    line.add_row(Text(word, style), Text(one.check, "bold"), one.text)
    if one.remedy:
        line.add_row("", "", Text(f"> {one.remedy}", "dim"))
    return line
