"""The words of the registry's commands, which are the same for `headwater registry` and `headwater-cloud devices`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="As one JSON object.")]
CsvFile = Annotated[
    Path, typer.Argument(help="CSV, its first line the names of the columns; - for standard input.")
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", help="WHAT=COLUMN, where it is guessed wrong: device=Name, place=Room."),
]
Site = Annotated[str, typer.Option(help="Site of devices of which the file says none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace", help="Forget all that the file does not say; without, it is added to what is known."
    ),
]
Pattern = Annotated[str, typer.Argument(help="SITE/DEVICE; * and ? match any text, quote them.")]
Device = Annotated[str, typer.Argument(help="SITE/DEVICE.")]
Devices = Annotated[list[str], typer.Argument(help="SITE/DEVICE, one or several.")]
Model = Annotated[str | None, typer.Option(help="Its model.")]
Place = Annotated[str | None, typer.Option(help="Where it is.")]
Owner = Annotated[str | None, typer.Option(help="Whom to ask.")]
Runbook = Annotated[
    str | None, typer.Option(help="Where it says what to do when it fails: a link or a sentence.")
]
Cohort = Annotated[str | None, typer.Option(help="Its peers, where they are not those of its model.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="METRIC=UNIT, such as temp=°C; METRIC= takes the unit away."),
]
Out = Annotated[Path | None, typer.Argument(help="Where to; standard output without it.")]
