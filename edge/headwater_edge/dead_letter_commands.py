"""`headwater-edge dead-letters`: list and show what could not be taken, have it taken again, or let it go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headwater_edge import dead_letters, words
from headwater_edge.dead_letters import Letter
from headwater_edge.options import SettingsFile, data_folder
from headwater_edge.places import FILE, SOCKET
from headwater_edge.store import read_store
from headwater_shared.errors import Refused

app = typer.Typer(help="What could not be taken, with its bytes.", no_args_is_help=True)

Ids = Annotated[
    list[str] | None, typer.Argument(help="Letters as `list` names them: TICK.N", metavar="[ID]...")
]
Reason = Annotated[str, typer.Option(help="Only letters of this reason; * matches any text.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a letter.")]

_AT_ONCE = 500
"""Letters of one word to the agent: each is a tick's row."""


@app.command("list")
def list_(
    settings: SettingsFile = None,
    last: Annotated[int, typer.Option(help="How many of the latest to show.")] = 20,
    reason: Reason = "*",
    as_json: AsJson = False,
) -> None:
    """List the latest dead letters, the newest first: name, reason, topic, the first bytes."""
    found = _latest(settings, last, reason)
    for letter in found:
        if as_json:
            print(msgspec.json.encode(_fields(letter)).decode())
        else:
            topic = letter.topic.decode(errors="replace")
            print(f"{letter.name}  {letter.reason}  {topic}  {letter.body[:60]!r}  ({letter.detail})")
    if not found and not as_json:
        print("no dead letters" if reason == "*" else f"no dead letters of the reason {reason}")


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(help="The letter, as `list` names it: TICK.N", metavar="ID")],
    settings: SettingsFile = None,
) -> None:
    """Show one dead letter whole."""
    reader = read_store(data_folder(settings) / FILE)
    try:
        found = dead_letters.find(reader, [_id(letter_id)])
    finally:
        reader.close()
    if not found:
        raise Refused(
            f"there is no dead letter {letter_id}", hint="'headwater-edge dead-letters list' lists them"
        )
    letter = found[0]
    came = datetime.fromtimestamp(letter.time_us / 1e6, UTC).isoformat()
    fields = {"letter": letter.name, "came": came, "reason": letter.reason, "why": letter.detail}
    fields |= {"topic": letter.topic.decode(errors="replace"), "bytes": repr(letter.body)[1:]}
    if letter.readings is not None:
        fields["not taken"] = ", ".join(f"{name} at {sent}: {value}" for name, sent, value in letter.readings)
    for name, value in fields.items():
        print(f"{name:9}  {value}")


@app.command()
def replay(settings: SettingsFile = None, ids: Ids = None, reason: Reason = "") -> None:
    """Have the running agent take letters again: what was not taken of them counts now, once, and they go."""
    taken, refused = 0, 0
    for some in _chosen(settings, ids, reason):
        answer = words.say(data_folder(settings) / SOCKET, "replay", letters=some)
        taken += answer["taken"]
        refused += len(answer["refused"])
        for why in answer["refused"]:
            print(why)
    print(f"{taken} taken, {refused} not")


@app.command()
def purge(settings: SettingsFile = None, ids: Ids = None, reason: Reason = "") -> None:
    """Let letters go for good: what they hold will never count."""
    gone = 0
    for some in _chosen(settings, ids, reason):
        gone += words.say(data_folder(settings) / SOCKET, "purge", letters=some)["gone"]
    print(f"{gone} purged")


def _fields(letter: Letter) -> dict[str, object]:
    """Return what `--json` shows; the message's bytes in base64."""
    fields: dict[str, object] = letter._asdict()
    fields["bytes"] = fields.pop("body")
    return fields


def _chosen(settings: Path | None, ids: list[str] | None, reason: str) -> list[list[tuple[int, int]]]:
    """Return the letters that are named one by one or by their reason, the oldest first, in portions."""
    if bool(ids) == bool(reason):
        raise Refused("name letters, or --reason", hint="--reason '*' means all of them")
    if ids:
        chosen = [_id(one) for one in ids]
    else:
        chosen = [(letter.tick, letter.n) for letter in reversed(_latest(settings, -1, reason))]
    return [chosen[at : at + _AT_ONCE] for at in range(0, len(chosen), _AT_ONCE)]


def _latest(settings: Path | None, last: int, reason: str) -> list[Letter]:
    reader = read_store(data_folder(settings) / FILE)
    try:
        return dead_letters.latest(reader, last, reason)
    finally:
        reader.close()


def _id(text: str) -> tuple[int, int]:
    tick, dot, n = text.partition(".")
    if not (dot and tick.isdecimal() and n.isdecimal()):
        raise Refused(
            f"{text!r} names no dead letter", hint="write TICK.N, as 'headwater-edge dead-letters list' does"
        )
    return int(tick), int(n)
