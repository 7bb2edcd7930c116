"""`headwater-cloud dead-letters`: list and show what the cloud side could not take, have it taken again, or let it go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer

from headwater_cloud import dead_letters, query
from headwater_cloud.commands import SettingsFile
from headwater_cloud.dead_letters import Letter
from headwater_cloud.opened import opened
from headwater_cloud.settings import CloudSettings
from headwater_shared import frame
from headwater_shared.bus import Bus
from headwater_shared.errors import Refused
from headwater_shared.kafka_settings import KafkaSettings, connection, is_kafka
from headwater_shared.settings import load
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import DEAD_LETTERS

app = typer.Typer(help="What the cloud side could not take, with its bytes.", no_args_is_help=True)

Numbers = Annotated[
    list[int] | None, typer.Argument(help="Letters as `list` numbers them.", metavar="[NUMBER]...")
]
Reason = Annotated[str, typer.Option(help="Only letters of this reason; * matches any text.")]


@app.command("list")
def list_(
    settings: SettingsFile = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the latest to show.")] = 20,
    reason: Reason = "*",
    replayed: Annotated[bool, typer.Option("--replayed", help="Those that were taken again, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a letter.")] = False,
) -> None:
    """List the latest dead letters, the newest first: number, reason, what it was, and why."""
    with opened(settings) as bus:
        found = 0
        for letter in dead_letters.back(bus):
            if (letter.replayed and not replayed) or not dead_letters.is_of(letter, reason):
                continue
            print(msgspec.json.encode(_fields(letter)).decode() if as_json else _line(letter))
            found += 1
            if found == last:
                break
    if not found and not as_json:
        print("no dead letters" if reason == "*" else f"no dead letters of the reason {reason}")


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="The letter, as `list` numbers it.")],
    settings: SettingsFile = None,
) -> None:
    """Show one dead letter whole; of parts that came too late, what they hold."""
    with opened(settings) as bus:
        letter = _found(bus, [number])[0]
    fields = _fields(letter)
    fields |= {f"header {name}": text for name, text in sorted(letter.stored.headers.items())}
    fields["bytes"] = repr(letter.stored.body)[1:]
    for name, value in fields.items():
        print(f"{name:26}  {value}")
    if letter.reason == dead_letters.LATE:
        print(*_parts(letter), sep="\n")


@app.command()
def replay(settings: SettingsFile = None, numbers: Numbers = None, reason: Reason = "") -> None:
    """Put letters on the bus again, as they came: what can be read now counts, once; what cannot is a dead letter anew."""
    if bool(numbers) == bool(reason):
        raise Refused("name letters, or --reason", hint="--reason '*' means all that were not taken again")
    with opened(settings) as bus:
        letters = _found(bus, numbers) if numbers else dead_letters.chosen(bus, (), reason)
        late = dead_letters.replay(bus, letters)
    print(f"{len(letters) - len(late)} put on the bus again, {len(late)} not")
    if late:
        print("the others came when their windows were no longer revised, and never will be: show them")


@app.command()
def purge(
    settings: SettingsFile = None,
    numbers: Numbers = None,
    before: Annotated[str, typer.Option(help="All that the bus took before this time (ISO 8601).")] = "",
) -> None:
    """Let letters go for good: what they hold will never count."""
    if bool(numbers) == bool(before):
        raise Refused("name letters, or --before", hint="write --before 2026-11-24, for example")
    cloud = load(settings, "cloud", CloudSettings)
    if is_kafka(cloud.bus) and numbers:
        raise Refused(
            "Kafka deletes from the beginning of a topic on only, not one record of it",
            hint="--before TIME lets all go that are older; others go by themselves after "
            f"{DEAD_LETTERS.days:g} days",
        )
    with opened(settings) as bus:
        letters = _found(bus, numbers) if numbers else dead_letters.older(bus, query.time_us(before))
        if isinstance(bus, SqliteLog):
            bus.delete(DEAD_LETTERS.name, 0, [letter.number for letter in letters])
        elif letters:
            from headwater_cloud.kafka_deleting import delete_up_to

            kafka = load(settings, "kafka", KafkaSettings)
            delete_up_to(
                connection(cloud.bus, kafka), kafka.prefix + DEAD_LETTERS.name, letters[-1].number + 1
            )
    print(f"{len(letters)} purged")


def _found(bus: Bus, numbers: Sequence[int]) -> list[Letter]:
    letters = dead_letters.chosen(bus, numbers)
    missing = sorted(set(numbers) - {letter.number for letter in letters})
    if missing:
        raise Refused(
            f"there is no dead letter {missing[0]}", hint="'headwater-cloud dead-letters list' lists them"
        )
    return letters


def _fields(letter: Letter) -> dict[str, object]:
    """Return what `--json` shows; the bytes in base64."""
    headers = letter.stored.headers
    return {
        "number": letter.number,
        "came": query.iso(letter.stored.time_us),
        "reason": letter.reason,
        "was": letter.kind,
        "identity": headers.get("was-ce_id", ""),
        "where": letter.stored.key,
        "text": headers.get("text", ""),
        "replayed": letter.replayed,
        "bytes": letter.stored.body,
    }


def _line(letter: Letter) -> str:
    fields = _fields(letter)
    again = "  (replayed)" if letter.replayed else ""
    return f"{letter.number}  {fields['came']}  {letter.reason}  {letter.kind}  {fields['identity'] or fields['where']}  {fields['text']}{again}"


def _parts(letter: Letter) -> Iterator[str]:
    """Write the parts of a late frame, one a line."""
    parts = frame.decode(letter.stored.body).parts
    of = parts.aggregates
    columns = (parts.series, parts.level, parts.start, of.count, of.mean, of.min, of.max)
    for series, level, start, *values in zip(*(column.tolist() for column in columns), strict=True):
        count, mean, least, most = values
        yield (
            f"  {parts.names[series]}  {parts.levels[level]}  {query.iso(start)}  count {count}, mean {mean:.6g}, min {least:.6g},"
            f" max {most:.6g}"
        )
