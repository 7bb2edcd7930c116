"""Pickles in a file, signed with the device's key: nothing unsigned is unpickled (R21).

A signature covers the agent, what the model is of, the detector's spec, and the versions of what pickled it. What does not
verify is left out: that series is learnt anew, and `Models.lost` says why.
"""

from __future__ import annotations

import hmac
import platform
import sys
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import msgspec

from headwater_edge.detection.models import Models
from headwater_shared.logs import get_logger

log = get_logger()

_MAC = "sha256"
_WITH = ("river", "numpy")


class _Row(msgspec.Struct, array_like=True):
    row: int
    name: str
    signature: bytes
    pickle: bytes


class _Written(msgspec.Struct):
    spec: str
    versions: dict[str, str]
    rows: list[_Row]


class Seal:
    """Signs and verifies; without a key it does neither, and says why."""

    def __init__(self, key: bytes = b"", agent: str = "") -> None:
        self.key = key
        self._agent = agent
        self.missing = "" if key else "there is no key here"
        """Why there is no key, empty if there is one."""

    def find(self, *, make: bool) -> None:
        """Look for the key, if there is none yet; `make` one, for there is something to sign."""

    def write(self, models: Models) -> bytes:
        """Return all models with their signatures; none without a key."""
        self.find(make=bool(models.pickles))
        versions = versions_here()
        rows = [
            _Row(row, models.names[row], self._signature(models.spec, models.names[row], versions, one), one)
            for row, one in sorted(models.pickles.items() if self.key else ())
        ]
        return msgspec.msgpack.encode(_Written(models.spec, versions, rows))

    def read(self, data: bytes) -> Models:
        """Return the models that were signed by us, for this agent, under the versions of now.

        Raises:
            msgspec.DecodeError: it is nothing that `write` made.
        """
        written = msgspec.msgpack.decode(data, type=_Written)
        self.find(make=False)
        models = Models(written.spec, {each.row: each.name for each in written.rows}, {})
        changed = _changed(written.versions)
        lost: Counter[str] = Counter()
        for each in written.rows:
            if self.missing:
                lost[self.missing] += 1
            elif not hmac.compare_digest(
                each.signature, self._signature(written.spec, each.name, written.versions, each.pickle)
            ):
                lost["it is not signed with the key of this device"] += 1
            elif changed:
                lost[changed] += 1
            else:
                models.pickles[each.row] = each.pickle
        models.lost = dict(lost)
        for why, rows in lost.items() if self is not NO_KEY else ():
            log.warning(
                "models of a snapshot cannot be taken up: they are learnt anew",
                detector=models.spec,
                models=rows,
                why=why,
            )
        return models

    def _signature(self, spec: str, name: str, versions: dict[str, str], one: bytes) -> bytes:
        about = msgspec.msgpack.encode([self._agent, spec, name, versions], order="sorted")
        return hmac.digest(self.key, len(about).to_bytes(4, "big") + about + one, _MAC)


NO_KEY = Seal()
"""Of those who read a snapshot for other things."""


@cache
def versions_here() -> dict[str, str]:
    """Return the versions that a pickle holds only under."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "byte order": sys.byteorder}
    for library in _WITH:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "none"
    return found


def _changed(before: dict[str, str]) -> str:
    now = versions_here()
    changes = [
        f"{name} was {before.get(name, 'none')} and is {now.get(name, 'none')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    return ", ".join(changes)
