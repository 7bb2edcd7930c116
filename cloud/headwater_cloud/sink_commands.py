"""`headwater-cloud sink`: run the sink, write history again, see what the store would not take, and have it tried again."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_cloud import query as queries
from headwater_cloud.commands import SettingsFile
from headwater_cloud.history import EARLIEST, LATEST
from headwater_cloud.influx_file import FILE, Dead, InfluxFile, dead_letters
from headwater_cloud.notify_pages import HEADER
from headwater_cloud.notify_words import when
from headwater_cloud.settings import CloudSettings
from headwater_cloud.sink_pages import SINK
from headwater_cloud.sink_process import PLACE
from headwater_shared.errors import Refused, StateInUse, TryAgain
from headwater_shared.settings import Common, load

app = typer.Typer(help="The sink: points into InfluxDB (docs/influx.md).", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]

_TIMEOUT_S = 30.0


@app.command()
def run(settings: SettingsFile = None) -> None:
    """Run the sink until a signal ends it; `headwater up` does, where the section cloud.influx has a url."""
    command = [sys.executable, "-m", "headwater_cloud", "--sink", *([str(settings)] if settings else [])]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell wanted


@app.command()
def rerun(
    since: Annotated[str, typer.Option("--from", help="What begins at or after this (ISO 8601).")],
    until: Annotated[str, typer.Option("--to", help="What begins before this; all without it.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Write history again: the same points, beside what is new."""
    from_us = queries.time_us(since) if since else EARLIEST
    to_us = queries.time_us(until) if until else LATEST
    if to_us <= from_us:
        raise Refused("--to is not after --from", hint="write the earlier one first")
    said = _done(settings, f"rerun?from={from_us}&to={to_us}", lambda file: _begun(file, from_us, to_us))
    runs = "the sink writes it" if said.get("running") else "the sink writes it when it runs: headwater up"
    print(msgspec.json.encode(said).decode() if as_json else runs)


@app.command("list")
def list_(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the points that the store refused for ever, and why; they wait for `retry`, or for the next change of their row."""
    data = load(settings, "common", Common).data
    found = dead_letters(Path(data) / FILE)
    if as_json:
        print(msgspec.json.encode({"dead_letters": [_shown(one) for one in found]}).decode())
        return
    if not found:
        began = (Path(data) / FILE).exists()
        print(
            "the store refused nothing"
            if began
            else f"nothing was written yet: no sink ran with the data folder {data}"
        )
    for one in found:
        print(
            f"{one.database}  {' '.join(map(str, msgspec.json.decode(one.key)))}  since {when(one.time_us, UTC)}"
        )
        print(f"  {one.why}", f"  {one.line.decode(errors='replace').rstrip()}", sep="\n")


@app.command()
def retry(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Have all that the store refused tried again, as the rows are now."""
    said = _done(settings, "retry", lambda file: {"retried": file.retry()})
    print(msgspec.json.encode(said).decode() if as_json else f"{said['retried']} are tried again")


def _shown(one: Dead) -> dict[str, Any]:
    return {**one._asdict(), "key": msgspec.json.decode(one.key), "line": one.line.decode(errors="replace")}


def _begun(file: InfluxFile, from_us: int, to_us: int) -> dict[str, Any]:
    file.add_job(from_us, to_us)
    return {"begun": True}


def _done(settings: Path | None, what: str, do: Callable[[InfluxFile], dict[str, Any]]) -> dict[str, Any]:
    """Do it in the sink's file, or have the process do it that has the file.

    Raises:
        TryAgain: it has the file, and does not answer. Refused: there is no file: no sink ever ran here.
    """
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    path = Path(common.data) / FILE
    if not path.exists():
        raise Refused("no sink ever ran here", hint="start it: headwater up, with a url in [cloud.influx]")
    try:
        with closing(InfluxFile(path)) as file:
            return do(file)
    except StateInUse:
        pass
    try:
        port = int(msgspec.json.decode((Path(common.data) / PLACE).read_bytes())["health"])
        made = http.client.HTTPConnection(cloud.health_host, port, timeout=_TIMEOUT_S)
        made.request("POST", SINK + what, b"", {HEADER: "headwater-cloud sink"})
        answer = made.getresponse()
        said: dict[str, Any] = msgspec.json.decode(answer.read())
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        raise TryAgain("the sink does not answer now", hint="try again in a few seconds") from None
    if answer.status != 200:
        raise Refused(said["error"])
    return said | {"running": True}
