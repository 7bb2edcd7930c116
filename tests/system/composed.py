"""docker-compose.yml run without docker: a service's command, on this box, with the files and variables that the service has.

Paths of the container become folders of the test, names of other containers the loopback with a port of the test's own;
nothing else of a command or a file is changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.support import ROOT, program

FILE = ROOT / "docker-compose.yml"
BALENA = ROOT / "deploy" / "balena" / "docker-compose.yml"
Service = dict[str, Any]
_ENTRYPOINTS = {"prom/alertmanager": ["prometheus-alertmanager"]}
"""What images start, where the file names options only."""


@cache
def read(path: Path = FILE) -> dict[str, Any]:
    """Return a compose file with its anchors resolved."""
    found: dict[str, Any] = YAML(typ="safe").load(path.read_text())
    return found


def services(path: Path = FILE) -> dict[str, Service]:
    """Return the services by name."""
    found: dict[str, Service] = read(path)["services"]
    return found


def ours() -> list[str]:
    """Return the names of the services that run Headwater's image."""
    return [name for name, one in services().items() if one["image"].startswith("headwater:")]


def binds(service: Service) -> dict[str, str]:
    """Return what of the tree a service sees: path in the container, path from the compose file."""
    volumes = [text.split(":") for text in service.get("volumes", [])]
    return {parts[1]: parts[0] for parts in volumes if parts[0].startswith(".")}


class Composed:
    """Services as processes of this box, in a folder."""

    def __init__(self, folder: Path, replace: Mapping[str, str]) -> None:
        """Make the secrets as a person does.

        Args:
            replace: texts of commands, variables and files, and what stands for them here.
        """
        self.folder = folder
        self.replace = dict(replace)
        subprocess.run(
            [str(ROOT / "deploy/compose/secrets.sh"), str(folder / "secrets")], check=True, timeout=10
        )

    def start(
        self, name: str, variables: Mapping[str, str] | None = None, *more: str
    ) -> subprocess.Popen[bytes]:
        """Start a service; `variables` and `more` words of the command say which ports are free here."""
        with self.log(name).open("ab") as out:
            return subprocess.Popen(
                [*self.command(name), *more],
                cwd=self.volume(name),
                env=self.environment(name, variables),
                stdout=out,
                stderr=out,
            )

    def run(
        self, name: str, words: list[str], variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run another command where a service runs, such as its health check."""
        return subprocess.run(
            self._here(name, words),
            cwd=self.volume(name),
            env=self.environment(name, variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def command(self, name: str) -> list[str]:
        one = services()[name]
        image = one["image"].split(":")[0]
        return self._here(name, [*one.get("entrypoint", _ENTRYPOINTS.get(image, [])), *one["command"]])

    def environment(self, name: str, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        given = services()[name].get("environment", {})
        path = f"{self._tools()}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        return {
            **os.environ,
            "PATH": path,
            **{key: self._volumes(name).get(text) or self._text(name, text) for key, text in given.items()},
            **(variables or {}),
        }

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def volume(self, name: str) -> Path:
        """Return the folder that stands for the volume of a service, or for its /data where it has none."""
        named = [
            text.split(":")[0] for text in services()[name].get("volumes", []) if not text.startswith(".")
        ]
        found = self.folder / (named[0] if named else name)
        found.mkdir(exist_ok=True)
        return found

    def _volumes(self, name: str) -> dict[str, str]:
        """Return the folders that stand for the named volumes of a service, by where the service has them."""
        named = [text.split(":") for text in services()[name].get("volumes", []) if not text.startswith(".")]
        for volume, *_ in named:
            (self.folder / volume).mkdir(exist_ok=True)
        return {inside: str(self.folder / volume) for volume, inside, *_ in named}

    def _tools(self) -> Path:
        """Return the folder of what the image has in /usr/local/bin."""
        folder = self.folder / "bin"
        if not folder.exists():
            folder.mkdir()
            shutil.copy(ROOT / "deploy" / "healthy.py", folder / "healthy")
            (folder / "healthy").chmod(0o755)
        return folder

    def _here(self, name: str, words: list[str]) -> list[str]:
        for inside, outside in binds(services()[name]).items():
            self._lay(name, ROOT / outside, self._bound(name, inside))
        found = [self._text(name, str(word)) for word in words]
        where = program(found[0]) or str(Path(sys.executable).parent / found[0])
        return [str(self._tools() / "healthy") if found[0] == "healthy" else where, *found[1:]]

    def _lay(self, name: str, source: Path, to: Path) -> None:
        """Copy a file, or a folder of files, with its paths and names as they are here."""
        if source.is_dir():
            for inner in source.iterdir():
                self._lay(name, inner, to / inner.name)
            return
        if not to.exists():  # a process may be reading it
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(self._text(name, source.read_text()))

    def _bound(self, name: str, inside: str) -> Path:
        return self.folder / f"{name}-bound" / inside.strip("/")

    def _text(self, name: str, text: str) -> str:
        """Put in what stands for the container's paths and names here; in one pass, so that nothing is replaced twice."""
        volume = self.volume(name)
        found = {inside: str(self._bound(name, inside)) for inside in binds(services()[name])}
        found |= {"/run/secrets": str(self.folder / "secrets"), "/mosquitto/data": str(volume)}
        found |= {f"={inside}": f"={folder}" for inside, folder in self._volumes(name).items()}
        found |= {"/run/tokens": str(self.folder / "tokens")}
        found |= {'"/data/': f'"{volume}/', "=/data/": f"={volume}/"} | self.replace
        temporary = self.folder / f"{name}-tmp"
        temporary.mkdir(exist_ok=True)
        found |= {f"{before}/tmp/": f"{before}{temporary}/" for before in (" ", "=")}  # noqa: S108 - it is what is replaced
        longest_first = sorted(found, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), lambda match: found[match[0]], text)
