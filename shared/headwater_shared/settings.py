"""Settings: tables of a TOML file into strict structs, and the small languages that their values are written in.

A process reads the tables that concern it: `load(path, "edge", EdgeSettings)`. Every table is a `Section`: frozen, and an
unknown key in it is an error that names file, line and the nearest known key. `describe` makes the commented default
file from the same structs, so the file, its documentation and the defaults cannot drift apart.

Any setting can come from the environment, which goes before the file (`settings_env`).

Secrets stand in no settings file: a field of type `Secret` holds `env:NAME` or `file:/path`, and `secret` resolves it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeVar

import msgspec

from headwater_shared.errors import SettingsError

if TYPE_CHECKING:
    from headwater_shared.settings_env import Variable

DURATION = r"^[0-9]+(us|ms|s|m|h|d)$"
SIZE = r"^[0-9]+(B|KB|MB|GB|TB)$"
SECRET = r"^(env|file):.+$"  # noqa: S105 (the pattern of a reference to one)
CLOCK = r"^(real|ntp|scaled:[0-9]+(\.[0-9]+)?(@.+)?)$"

Duration = Annotated[str, msgspec.Meta(pattern=DURATION)]
"""A field that `duration` reads, such as "250ms"."""
Size = Annotated[str, msgspec.Meta(pattern=SIZE)]
"""A field that `size` reads, such as "64MB"."""
Secret = Annotated[str, msgspec.Meta(pattern=SECRET)]
"""A field that `secret` resolves: "env:NAME" or "file:/path"."""

KNOWN = ("common", "kafka", "edge", "cloud", "fleet", "up")
"""The tables that a settings file may hold; a process decodes only its own."""

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of settings. A subclass repeats `frozen=True, forbid_unknown_fields=True` for the type checker."""

    def with_files(self, path: Path) -> Self:
        """Return these settings with what stands in files that they name, relative to `path`, that of the settings file.

        Raises:
            SettingsError: as `load`.
        """
        return self


class Common(Section, frozen=True, forbid_unknown_fields=True):
    """What every process of this machine shares."""

    data: Annotated[
        str,
        msgspec.Meta(description="Folder that holds all state; relative to where the command is started."),
    ] = "headwater-data"
    clock: Annotated[
        str,
        msgspec.Meta(
            pattern=CLOCK,
            description='"real"; "ntp": real, but believed only while a time server disciplines it (a Pi without a clock of its own); '
            '"scaled:60": event time runs 60 times as fast (simulation only), from the start on, or from a time that stands behind an @.',
        ),
    ] = "real"
    log: Annotated[
        Literal["auto", "json", "text"],
        msgspec.Meta(
            description="json: one object a line; text: for people; auto: text on a terminal, else json."
        ),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], msgspec.Meta(description="The least that is logged.")
    ] = "info"
    otel: Annotated[
        str,
        msgspec.Meta(
            description='Where traces go, by OpenTelemetry over HTTP, such as "http://127.0.0.1:4318" (extra otel; docs/traces.md). Empty: nowhere.'
        ),
    ] = ""


T = TypeVar("T")


def load(path: Path | None, section: str, kind: type[T], *, known: tuple[str, ...] = KNOWN) -> T:
    """Decode the table `section` of a settings file and of the environment; what neither sets has its default.

    Args:
        path: None: there is no file.
        known: the tables that the file may hold. One that holds others than a box's takes nothing from the environment.

    Raises:
        SettingsError: naming file, line and key, or the variable; an unknown key comes with the nearest known one.
    """
    text, data = ("", {}) if path is None else _read(path, known)
    return _convert(path, text, data.get(section, {}), section, kind, environment=known == KNOWN)


class Origin(NamedTuple):
    """One key, its value, and where that comes from: "default", file and line, or the environment variable."""

    key: str
    value: Any
    origin: str


def origins(path: Path | None, section: str, kind: type[Any]) -> list[Origin]:
    """Return every key of a table with where its value comes from.

    Raises:
        SettingsError: as `load`.
    """
    from headwater_shared.reload import leaves
    from headwater_shared.settings_env import overlaid
    from headwater_shared.settings_faults import line_of

    loaded = load(path, section, kind)
    text, data = ("", {}) if path is None else _read(path, KNOWN)
    set_by = overlaid(data.get(section, {}), kind, _given(section, kind))[1]
    in_file = {key for key, _ in leaves(data.get(section, {}))}

    def origin(key: tuple[str | int, ...]) -> str:
        for end in range(len(key), 0, -1):
            if key[:end] in set_by:
                return set_by[key[:end]]
            if key[:end] in in_file:
                return f"{path}:{line_of(text, (section, *key[:end]))}"
        return "default"

    return [
        Origin(
            ".".join(f"[{part}]" if isinstance(part, int) else part for part in (section, *key)).replace(".[", "["),
            value, origin(key),
        )
        for key, value in leaves(loaded)
    ]  # fmt: skip


def load_all(path: Path, sections: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Decode every table named in `sections`; any other table is an error.

    Raises:
        SettingsError: as `load`.
    """
    text, data = _read(path, tuple(sections))
    return {
        section: _convert(path, text, data.get(section, {}), section, kind, environment=False)
        for section, kind in sections.items()
    }


def describe(sections: Mapping[str, type[Any]]) -> str:
    """The commented default settings file, made from the structs: it parses to exactly their defaults."""
    from headwater_shared.settings_text import default_file

    return default_file(sections)


def duration(text: str) -> int:
    """Read a length of time, such as "250ms", "10s", "1m", "1h", "7d". Returns microseconds.

    Raises:
        SettingsError: it is none.
    """
    if not re.fullmatch(DURATION, text):
        raise SettingsError(
            f"{text!r} is no length of time",
            hint='write a whole number and us, ms, s, m, h or d, such as "250ms"',
        )
    number = text.rstrip("umshd")
    return int(number) * _MICROSECONDS[text[len(number) :]]


def size(text: str) -> int:
    """Read a number of bytes, such as "64MB" (units of 1,000, as disks are sold). Returns bytes.

    Raises:
        SettingsError: it is none.
    """
    if not re.fullmatch(SIZE, text):
        raise SettingsError(
            f"{text!r} is no size", hint='write a whole number and B, KB, MB, GB or TB, such as "64MB"'
        )
    number = text.rstrip("BKMGT")
    return int(number) * _BYTES[text[len(number) :]]


def secret(value: str) -> str:
    """Resolve "env:NAME" or "file:/path" (the text of the file without the line end). No message holds the secret.

    Raises:
        SettingsError: it is written out in the settings, or the variable or file is not there or empty.
    """
    where, _, name = value.partition(":")
    if where == "env" and name:
        found = os.environ.get(name, "")
        if not found:
            raise SettingsError(
                f"the environment variable {name} is not set or empty",
                hint=f"export {name}=... before the start",
            )
        return found
    if where == "file" and name:
        return _secret_file(name)
    raise SettingsError(
        "a secret is written out in the settings",
        hint='put it in an environment variable or a file, and write "env:NAME" or "file:/path" here',
    )


def listen_address(host: str, port: int, *, users: bool) -> tuple[str, int]:
    """Check where to listen: anything but loopback is refused unless users are set.

    Raises:
        SettingsError: the address is reachable from outside and nobody would have to say who they are.
    """
    if not 0 <= port <= 65_535:
        raise SettingsError(f"{port} is no port", hint="choose one from 1 to 65535, or 0 for any free one")
    if not users and not is_loopback(host):
        raise SettingsError(
            f"listening on {host or 'all addresses'}:{port} without users would let anyone in",
            hint="set users with passwords, or listen on 127.0.0.1",
        )
    return host, port


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may lead anywhere, and elsewhere tomorrow


def _secret_file(name: str) -> str:
    try:
        found = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"the secret's file {name} cannot be read: {reason}", hint="check its path and its owner"
        ) from None
    if not found:
        raise SettingsError(f"the secret's file {name} is empty", hint="write the secret into it")
    return found


def _read(path: Path, known: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Text and tables of a settings file whose top level holds nothing but tables that are known."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(
            f"there is no settings file {path}", hint="'headwater init' writes one with all defaults"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}", hint="check its path and its owner"
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        from headwater_shared.settings_faults import syntax

        raise syntax(path, text, str(error)) from None
    if any(key not in known or not isinstance(value, dict) for key, value in data.items()):
        from headwater_shared.settings_faults import top_level

        raise top_level(path, text, data, known)
    return text, data


def _given(section: str, kind: type[Any]) -> list[Variable]:
    """Return the environment's variables for a table; the module that reads them is imported only where there are any."""
    if not any(name.startswith("HEADWATER_") for name in os.environ):
        return []
    from headwater_shared.settings_env import refuse_single, variables

    refuse_single(os.environ, section, kind)
    return [variable for variable in variables(os.environ, KNOWN) if variable.section == section]


def _convert(
    path: Path | None, text: str, table: dict[str, Any], section: str, kind: type[T], *, environment: bool
) -> T:
    given = _given(section, kind) if environment else []
    set_by: dict[tuple[str | int, ...], str] = {}
    if given:
        from headwater_shared.settings_env import overlaid

        table, set_by = overlaid(table, kind, given)
    try:
        settings = msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        from headwater_shared.settings_faults import Fault

        raise Fault(path, text, section, table, kind, str(error), set_by).explain() from None
    # Without a file, files that the settings name lie where the command was started.
    return settings.with_files(path or Path("settings")) if isinstance(settings, Section) else settings
