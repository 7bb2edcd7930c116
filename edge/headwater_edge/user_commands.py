"""The commands `headwater-edge user ...`: who may come in, and what each may speak for; a running agent reads it within a second."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headwater_edge import passwords, users_file
from headwater_edge.settings import EdgeSettings
from headwater_edge.users_file import User
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.settings import Common, load, secret

app = typer.Typer(no_args_is_help=True, help="Who may come in, and what each may speak for.")

_SHORTEST = 8
"""Characters of a password that a person chooses."""

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
Name = Annotated[str, typer.Argument(help="The user, or the common name of a certificate.")]
Sites = Annotated[list[str] | None, typer.Option("--site", help="Sites it may speak for (* for any).")]
Devices = Annotated[list[str] | None, typer.Option("--device", help="Devices on these sites (* for any).")]
Topics = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Topics of formats that do not begin with hw: a filter, with + and #."),
]
Reads = Annotated[
    list[str] | None,
    typer.Option(
        "--read", help="What it may subscribe to of alerts and egress, as a filter with + and #: hw-out/#."
    ),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The user.")],
    site: Sites = None,
    device: Devices = None,
    topic: Topics = None,
    read: Reads = None,
    password: Annotated[
        str,
        typer.Option(
            help="env:NAME or file:PATH; without: asked for, or the first line of what is piped in."
        ),
    ] = "",
    generate: Annotated[bool, typer.Option("--generate", help="Make a password, and print it once.")] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Give a user that is there this password, and these grants if any."),
    ] = False,
    settings: SettingsFile = None,
) -> None:
    """Add a user; without --site, --device, --topic and --read it may speak for the device of its own name only."""
    path, edge = _file(settings)
    if name in edge.users:
        raise Refused(f"the user {name!r} stands in the settings", hint="take it out of edge.users first")
    word = passwords.random_password() if generate else _password(password)
    kept = passwords.hashed(word.encode(), passwords.RANDOM if generate else passwords.CHOSEN)
    with users_file.changed(path) as users:
        before = users.get(name)
        if before is not None and before.password and not replace:
            raise Refused(f"there is a user {name!r}", hint="--replace gives it a new password")
        granted = _grants(site, device, topic, read)
        if granted is None and before is not None:
            granted = before.grants
        users[name] = User(kept, granted)
    typer.echo(word if generate else f"user {name} may speak for {_said(name, granted)}")


@app.command()
def grant(
    name: Name,
    site: Sites = None,
    device: Devices = None,
    topic: Topics = None,
    read: Reads = None,
    nothing: Annotated[bool, typer.Option("--nothing", help="Lock it out.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Say what a user, or the holder of a certificate, may speak for, instead of what it might before."""
    path, _ = _file(settings)
    granted = () if nothing else _grants(site, device, topic, read)
    with users_file.changed(path) as users:
        before = users.get(name, User())
        users[name] = User(before.password, granted)
    typer.echo(f"{name} may speak for {_said(name, granted)}")


@app.command()
def remove(name: Name, settings: SettingsFile = None) -> None:
    """Take a user away; its connections end."""
    path, _ = _file(settings)
    with users_file.changed(path) as users:
        if users.pop(name, None) is None:
            raise Refused(
                f"there is no user {name!r} in {path}", hint="`headwater-edge user list` shows them"
            )
    typer.echo(f"user {name} is removed")


@app.command("list")
def list_users(
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """Show users and certificates that have grants, and what each may speak for; no passwords."""
    path, edge = _file(settings)
    users = users_file.read(path)
    for name in sorted({*users, *edge.users, *edge.grants}):
        user = users.get(name, User())
        by = "password" if user.password or name in edge.users else "certificate"
        listed = [one for one in (user.grants, edge.grants.get(name)) if one is not None]
        granted = tuple(rule for one in listed for rule in one) if listed else None
        if as_json:
            typer.echo(msgspec.json.encode({"user": name, "by": by, "grants": granted}).decode())
        else:
            typer.echo(f"{name:24} {by:12} {_said(name, granted)}")


def _file(settings: Path | None) -> tuple[Path, EdgeSettings]:
    common, edge = load(settings, "common", Common), load(settings, "edge", EdgeSettings)
    return Path(common.data) / edge.users_file, edge


def _grants(
    sites: list[str] | None, devices: list[str] | None, topics: list[str] | None, reads: list[str] | None
) -> tuple[str, ...] | None:
    """Rules as they are kept: each site with each device."""
    if not sites and not devices and not topics and not reads:
        return None
    pairs = [f"{site}/{device}" for site in sites or ["*"] for device in devices or ["*"]]
    spoken = (*(pairs if sites or devices else ()), *(f"topic:{topic}" for topic in topics or ()))
    return (*spoken, *(f"read:{topic}" for topic in reads or ()))


def _said(name: str, granted: tuple[str, ...] | None) -> str:
    if granted is None:
        return f"{name} only" if "/" in name else f"*/{name} only"
    return " ".join(granted) or "nothing"


def _password(where: str) -> str:
    if where:
        word = secret(where)
    elif sys.stdin.isatty():
        word = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        word = sys.stdin.readline().rstrip("\r\n")
    if len(word) < _SHORTEST:
        raise SettingsError(
            f"a password of less than {_SHORTEST} characters",
            hint="choose a longer one, or let --generate make one",
        )
    return word
