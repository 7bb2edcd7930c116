"""A copy of a running box in one file, and a box from such a file (R6, R32).

The files are copied in the order in which readings go through them, each as it is at one moment: the agent's, the log, the
cloud side's. So whatever left a file before it was copied is in one that was copied later, and nothing is lost between two
of them; what is in two is the same rows, which count once. Copies are made by connections that only read.

A backup is a tar: `manifest.json` (what, when, from where, hashes), the settings with the file of rules that they name, the
databases, the users' file and the registry of devices. It holds no keys: the private keys of certificates, what secrets refer to, and the key of signed state lie elsewhere and stay there (R21).
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
import sqlite3
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from headwater_cloud import notify_file
from headwater_cloud.settings import CloudSettings, in_data
from headwater_edge.places import FILE
from headwater_edge.settings import EdgeSettings
from headwater_shared import registry
from headwater_shared.errors import Refused, StateError, StateInUse, TryAgain
from headwater_shared.kafka_settings import is_kafka
from headwater_shared.settings import Common, load
from headwater_shared.sqlite_file import WriterLock, read_only

FORMAT = 1
MANIFEST, SETTINGS, RULES = "manifest.json", "headwater.toml", "rules.toml"
EDGE, LOG, CLOUD, NOTIFY = "edge.db", "log.db", "cloud.db", notify_file.FILE
USERS, REGISTRY = "users.toml", registry.FILE
_CHUNK = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """One file of a backup."""

    name: str
    size: int
    blake2b: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself."""

    format: int
    made: str
    """When it was begun, UTC."""
    host: str
    agent: str
    version: str
    files: list[Entry]


class Places(NamedTuple):
    """Where the files of a box lie, by their names in a backup."""

    data: Path
    databases: dict[str, Path]
    """In the order in which readings go through them."""
    others: dict[str, Path]
    """In the data folder, beside the databases."""
    rules: Path | None
    agent: str


def places(settings: Path | None) -> Places:
    """Return where the files of a box lie.

    Raises:
        SettingsError: the settings are wrong.
    """
    common, edge = load(settings, "common", Common), load(settings, "edge", EdgeSettings)
    cloud = load(settings, "cloud", CloudSettings)
    data = common.data
    databases = {
        EDGE: Path(data) / FILE,
        LOG: in_data(data, edge.bus),
        CLOUD: in_data(data, cloud.file),
        NOTIFY: Path(data) / NOTIFY,
    }
    if is_kafka(edge.bus):  # Kafka keeps copies of its own
        del databases[LOG]
    others = {USERS: in_data(data, edge.users_file), REGISTRY: Path(data) / REGISTRY}
    return Places(Path(data), databases, others, rules_file(settings), edge.name)


def rules_file(settings: Path | None) -> Path | None:
    """Return the file of rules that a settings file names, which need not be there; None if it names none."""
    if settings is None:
        return None
    named = tomllib.loads(settings.read_text(encoding="utf-8")).get("edge", {}).get("rules", "")
    return settings.parent / named if named else None


def backup(target: Path, settings: Path | None, version: str, said: Callable[[str], None]) -> Manifest:
    """Write a backup of a box, which may run; whole or not at all.

    Args:
        target: the file; its folder must have room for it and for the largest of the databases.
        settings: the settings file of the box.
        version: of Headwater.
        said: is told what is being done.

    Raises:
        Refused: the file is there already, or there is nothing to copy.
        StateError: a database cannot be copied, or is damaged.
        TryAgain: there is no room.
    """
    here = places(settings)
    if target.exists():
        raise Refused(f"{target} is there already", hint="name another file, or move it away")
    if not here.databases[EDGE].exists():
        raise Refused(f"there is no box in {here.data}", hint="name its settings: --settings headwater.toml")
    half = target.with_name(target.name + ".part")
    entries: list[Entry] = []
    made = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with (
            _private(half) as out,
            tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar,
            TemporaryDirectory(prefix=".headwater-", dir=target.parent) as folder,
        ):
            for name, path in here.databases.items():
                if not path.exists():
                    continue
                said(f"copying {path}")
                copy = Path(folder) / name
                copied(path, copy)
                entries.append(_add(tar, name, copy))
                copy.unlink()
            for name, file in ((SETTINGS, settings), (RULES, here.rules), *here.others.items()):
                if file is not None and file.exists():
                    entries.append(_add(tar, name, file))
            manifest = Manifest(FORMAT, made, socket.gethostname(), here.agent, version, entries)
            body = msgspec.json.format(msgspec.json.encode(manifest))
            info = tarfile.TarInfo(MANIFEST)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
            tar.close()
            out.flush()
            os.fsync(out.fileno())
        half.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise TryAgain(f"{target} cannot be written: {error.strerror or error}", hint="free space, or name another disk") from None  # fmt: skip
    finally:
        half.unlink(missing_ok=True)
    return manifest


def copied(path: Path, to: Path) -> None:
    """Copy a database as it is at one moment, by a connection that only reads, and look through the copy.

    Raises:
        StateError: it cannot be read, or is damaged.
    """
    try:
        with closing(read_only(path)) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)  # in one step: one moment
            (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(28, "no space is left") from error
        raise StateError(
            f"{path} cannot be copied: {error}", hint="'headwater-edge check' says more of the agent's file"
        ) from None
    if found != "ok":
        raise StateError(
            f"{path} is damaged: {found}", hint="see docs/damaged-files.md; an older backup may be whole"
        )


def read(file: Path) -> Manifest:
    """Read what a backup says of itself.

    Raises:
        StateError: it is none, or of a newer version.
    """
    try:
        with tarfile.open(file) as tar:
            body = tar.extractfile(MANIFEST)
            assert body is not None
            manifest = msgspec.json.decode(body.read(), type=Manifest)
    except FileNotFoundError:
        raise StateError(
            f"there is no file {file}", hint="name a file that 'headwater backup' wrote"
        ) from None
    except (tarfile.TarError, KeyError, AssertionError, OSError, msgspec.DecodeError) as error:
        raise StateError(
            f"{file} is no backup: {error}", hint="name a file that 'headwater backup' wrote"
        ) from None
    if manifest.format > FORMAT:
        raise StateError(
            f"{file} was made by a newer version ({manifest.version})", hint="install that version again"
        )
    return manifest


def restore(file: Path, settings: Path, *, replace: bool) -> tuple[Manifest, Path | None]:
    """Make a box from a backup; nothing runs afterwards.

    Args:
        file: the backup.
        settings: the settings file; it is written from the backup where there is none.
        replace: whether what lies where the files go is moved aside, into a folder of the data folder.

    Returns:
        what the backup said of itself, and the folder that has what was there before, if anything was.

    Raises:
        StateInUse: a box runs there. Refused: there is a box, and `replace` is not set. StateError: the backup is damaged.
    """
    manifest = read(file)
    entries = {entry.name: entry for entry in manifest.files}
    with tarfile.open(file) as tar:
        if not settings.exists() and SETTINGS in entries:
            _extract(tar, entries[SETTINGS], settings, file)
        rules = rules_file(settings) if settings.exists() else None
        if rules is not None and not rules.exists() and RULES in entries:
            _extract(tar, entries[RULES], rules, file)
    here = places(settings if settings.exists() else None)
    here.data.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for path in (here.databases[EDGE], here.databases[CLOUD]):
            held.enter_context(_not_running(path))
        there = list(_there(here))
        if there and not replace:
            raise Refused(
                f"{here.data} is not empty: {', '.join(path.name for path in there[:4])}",
                hint="--replace moves what is there aside, or name another data folder",
            )
        folder = here.data / ".restoring"
        folder.mkdir(exist_ok=True)
        goes = {**here.databases, **here.others}
        try:
            with tarfile.open(file) as tar:
                for entry in manifest.files:
                    if entry.name in goes:
                        _extract(tar, entry, folder / entry.name, file)
            aside = _set_aside(here, there)
            # The agent's file comes last: without it no agent goes on from half of a box.
            for name in (LOG, CLOUD, NOTIFY, *here.others, EDGE):
                if name in entries:
                    (folder / name).replace(goes[name])
            _sync(here.data)
        finally:
            for left in folder.iterdir():
                left.unlink()
            folder.rmdir()
    return manifest, aside


@contextmanager
def _not_running(path: Path) -> Iterator[None]:
    try:
        lock = WriterLock(path)
    except StateInUse as error:
        raise StateInUse(f"a box runs here: {error.message}", hint="stop it first, then restore") from None
    with lock:
        yield


def _there(here: Places) -> Iterator[Path]:
    """What a start would go on with: the databases with what SQLite has beside them."""
    for path in here.databases.values():
        for more in ("", "-wal", "-shm", "-journal"):
            one = path.with_name(path.name + more)
            if one.exists():
                yield one
    yield from (path for path in here.others.values() if path.exists())


def _set_aside(here: Places, there: list[Path]) -> Path | None:
    if not there:
        return None
    number = 1
    while (aside := here.data / f"before-restore-{number}").exists():
        number += 1
    aside.mkdir()
    for path in there:
        path.replace(aside / path.name)
    return aside


def _add(tar: tarfile.TarFile, name: str, path: Path) -> Entry:
    info = tar.gettarinfo(path, name)
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    with path.open("rb") as body:
        digest = hashlib.file_digest(body, lambda: hashlib.blake2b(digest_size=32))
        body.seek(0)
        tar.addfile(info, body)
    return Entry(name, info.size, digest.hexdigest())


def _extract(tar: tarfile.TarFile, entry: Entry, to: Path, file: Path) -> None:
    """Write one file of a backup, and compare it with what the backup says of it; nothing is left of one that differs."""
    half = to.with_name(to.name + ".part")
    digest = hashlib.blake2b(digest_size=32)
    try:
        body = tar.extractfile(entry.name)
        if body is None:
            raise KeyError(entry.name)
        with body, _private(half) as out:
            while piece := body.read(_CHUNK):
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != entry.blake2b:
            raise StateError(f"{file} is damaged: {entry.name} is not as it was", hint="take another backup")
        half.replace(to)
    except (KeyError, tarfile.TarError) as error:
        raise StateError(f"{file} is damaged: {error}", hint="take another backup") from None
    except OSError as error:
        raise TryAgain(f"{to} cannot be written: {error.strerror or error}", hint="free space; nothing was changed") from None  # fmt: skip
    finally:
        half.unlink(missing_ok=True)


@contextmanager
def _private(path: Path) -> Iterator[io.BufferedWriter]:
    """A new file that its owner alone may read: it holds hashes of passwords, and what was measured."""
    with suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        yield out


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
