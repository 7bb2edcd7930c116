"""A box for `headwater doctor` to look at: its settings, what runs of it, and the causes that the tests make in it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from headwater_appliance import doctor
from headwater_appliance.doctor import Finding
from tests.support import ROOT, free_port, lacking, part_required
from tests.system.box import Box
from tests.system.wire import Wire


class Patient:
    """The box, and how it is examined: in this process, or as the command is started under limits, a library or a mount."""

    def __init__(self, folder: Path, open_things: ExitStack) -> None:
        self.folder = folder
        self.open = open_things
        self.box = Box(folder)
        open_things.callback(self.box.close)
        self.settings = self.box.settings
        self.env: dict[str, str] = {}
        self.prefix: list[str] = []
        self.before: Callable[[], None] | None = None
        """Called in the process before it becomes the command."""

    @property
    def data(self) -> Path:
        return self.box.data

    def examine(self, check: str) -> Finding:
        """Make one check: here, or where the process must be another one by the command, whose exit code must fit."""
        if not (self.env or self.prefix or self.before):
            return next(iter(doctor.examine(self.settings, [check])))
        words = ["doctor", "--check", check, "--json", "--settings", str(self.settings)]
        done = subprocess.run(
            [*self.prefix, sys.executable, "-c", "from headwater_appliance.cli import main; main()", *words],
            cwd=ROOT, env={**os.environ, **self.env}, preexec_fn=self.before, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        found = msgspec.json.decode(done.stdout.splitlines()[0], type=Finding)
        assert done.returncode == int(found.verdict == "wrong"), done.stdout + done.stderr
        return found

    def set(self, old: str, new: str) -> None:
        """Change the settings file."""
        text = self.settings.read_text()
        assert old in text
        self.settings.write_text(text.replace(old, new, 1))

    def send(self, topic: str, *payloads: bytes) -> None:
        """Publish, and wait until it is acknowledged."""
        with Wire(self.box.port, "someone") as wire:
            for payload in payloads:
                wire.send(wire.publish(topic, payload))
            wire.read_acknowledgements(len(payloads))

    def say(self, remedy: str) -> None:
        """Type what a remedy says, word for word."""
        subprocess.run(shlex.split(remedy), check=True, cwd=ROOT, capture_output=True, timeout=60)


def lying(folder: Path, **env: str) -> Mapping[str, str]:
    """Return the environment of a process to which clock and disk lie (`lying.c`)."""
    part_required("cc")
    library = folder / "lying.so"
    source = ROOT / "tests" / "appliance" / "lying.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    return {"LD_PRELOAD": str(library), **env}


def with_mount(what: Path, where: str) -> Sequence[str]:
    """Return the words before a command that then sees a file in the place of another; needs root."""
    part_required("power")
    script = f'mount --bind {what} {where} && exec "$@"'
    words = ["unshare", "-m", "sh", "-c", script, "sh"]
    if subprocess.run([*words, "true"], check=False, capture_output=True, timeout=20).returncode:
        lacking("power", "no mounts may be made here")
    return words


def port() -> int:
    """A port for the settings."""
    return free_port()
