"""`headwater-edge user`, as it is typed."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from headwater_edge.cli import app
from headwater_edge.users import Users
from headwater_shared.errors import HeadwaterError, NeedsPerson
from tests.support import ROOT
from tests.system.box import command


def _run(settings: Path, *words: str, stdin: str = "", code: int = 0, **env: str) -> str:
    """Run the command here; return what it printed, or, with a code, what it refused with."""
    done = CliRunner().invoke(app, ["user", *words, "--settings", str(settings)], input=stdin, env=env)
    if code:
        assert isinstance(done.exception, HeadwaterError), done.output
        assert done.exception.exit_code == code
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def _lets_in(file: Path, user: str, password: str, topic: str) -> bool:
    async def look() -> bool:
        users = Users(file)
        granted = await users.check(user, password.encode())
        users.close()
        return granted is not None and granted.allows(topic.encode())

    return asyncio.run(look())


def test_users_as_they_are_typed(tmp_path: Path) -> None:
    """Added with a password from a pipe, a variable, a file or made up; listed without it; granted, replaced, removed; each
    mistake is said, and changes nothing.
    """
    settings, file = tmp_path / "headwater.toml", tmp_path / "data" / "users.json"
    settings.write_text(
        f'[common]\ndata = "{tmp_path}/data"\n[edge.users]\nfleet = "env:X"\n[edge.grants]\n"cn.of.a.device" = ["s/d"]\n'
    )
    assert _run(settings, "add", "pump-7", stdin="swordfish\n") == "user pump-7 may speak for */pump-7 only\n"
    assert _lets_in(file, "pump-7", "swordfish", "hw/any/pump-7/data")
    _run(
        settings,
        "add",
        "north",
        "--site",
        "north",
        "--topic",
        "tele/n/#",
        "--password",
        "env:WORD",
        WORD="correct horse",
    )
    assert _lets_in(file, "north", "correct horse", "hw/north/any/data")
    assert _lets_in(file, "north", "correct horse", "tele/n/SENSOR")
    (tmp_path / "word").write_text("from a file\n")
    _run(settings, "add", "two", "--device", "a", "--device", "b", "--password", f"file:{tmp_path}/word")
    assert _lets_in(file, "two", "from a file", "hw/x/b/data")
    made = _run(settings, "add", "made", "--generate").strip()
    assert _lets_in(file, "made", made, "hw/x/made/data")
    before = file.read_bytes()
    refused: tuple[tuple[tuple[str, ...], str], ...] = (
        (("add", "pump-7", "--generate"), "there is a user 'pump-7'"),
        (("add", "fleet", "--generate"), "stands in the settings"),
        (("remove", "nobody"), "there is no user 'nobody'"),
    )
    for words, said in refused:
        assert said in _run(settings, *words, code=1)
    wrong: tuple[tuple[tuple[str, ...], str], ...] = (
        (("add", "short"), "less than 8 characters"),
        (("add", "x", "--generate", "--site", "a/b"), "names no devices and no topics"),
        (("grant", "x", "--topic", "a/#/b"), "names no devices and no topics"),
    )
    for words, said in wrong:
        assert said in _run(settings, *words, code=NeedsPerson.exit_code)
    assert file.read_bytes() == before
    _run(settings, "add", "north", "--replace", stdin="another word\n")
    assert _lets_in(file, "north", "another word", "hw/north/any/data")
    _run(settings, "grant", "north", "--site", "south")
    assert not _lets_in(file, "north", "another word", "hw/north/any/data")
    _run(settings, "grant", "thief", "--nothing")
    _run(settings, "remove", "two")
    shown = [json.loads(line) for line in _run(settings, "list", "--json").splitlines()]
    assert {line["user"]: (line["by"], line["grants"]) for line in shown} == {
        "cn.of.a.device": ("certificate", ["s/d"]),
        "fleet": ("password", None),
        "made": ("password", None),
        "north": ("password", ["south/*"]),
        "pump-7": ("password", None),
        "thief": ("certificate", []),
    }
    text = _run(settings, "list")
    assert "thief" in text
    assert "nothing" in text
    assert "scrypt" not in text


def test_a_password_is_asked_for_on_a_terminal(tmp_path: Path) -> None:
    """Twice, and not shown."""
    settings = tmp_path / "headwater.toml"
    settings.write_text(f'[common]\ndata = "{tmp_path}/data"\n')
    ours, theirs = pty.openpty()
    words = [command("headwater-edge"), "user", "add", "ann", "--settings", str(settings)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    try:
        for prompt in (1, 2):
            while shown.count(b": ") < prompt:  # the space is written once the echo is off
                shown += os.read(ours, 1000)
            os.write(ours, b"swordfish\n")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)
    assert b"swordfish" not in shown
    assert _lets_in(tmp_path / "data" / "users.json", "ann", "swordfish", "hw/s/ann/data")
