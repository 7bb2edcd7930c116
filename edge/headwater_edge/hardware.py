"""What a state file is bound to: the device's serial number, or what else is not copied with a card (R6)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

_SERIALS = ("sys/firmware/devicetree/base/serial-number", "proc/device-tree/serial-number")
"""Of a Raspberry Pi and its kind; containers see them too."""
_BOARDS = ("sys/class/dmi/id/product_uuid", "sys/class/dmi/id/board_serial")
"""Of a PC; only root may read them."""
_MACHINE = "etc/machine-id"
"""Of an installation: it is copied with a card, so it is the last to be asked, and in a container it is the image's."""
_CONTAINER = (".dockerenv", "run/.containerenv")
_NONE = frozenset({"", "0" * 16, "None", "Not Specified", "To be filled by O.E.M."})


def identity(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str:
    """Return `kind:hash` of what tells this device from another; empty where nothing does.

    `HEADWATER_HARDWARE` comes first (a name that an operator gives), then balena's name of the device, then what the hardware
    says. Two devices are the same if kind and hash are, and different if only the hash is not: of another kind nobody
    can say.
    """
    for kind, variable in (("given", "HEADWATER_HARDWARE"), ("balena", "BALENA_DEVICE_UUID")):
        if environment.get(variable):
            return _hashed(kind, environment[variable])

    def read(name: str) -> str:
        try:
            text = (root / name).read_text(errors="replace").strip("\x00 \n")
        except OSError:
            return ""
        return "" if text in _NONE else text

    in_container = any((root / mark).exists() for mark in _CONTAINER) or bool(environment.get("container"))
    kinds: list[tuple[str, tuple[str, ...]]] = [("serial", _SERIALS), ("board", _BOARDS)]
    if not in_container:
        kinds.append(("machine", (_MACHINE,)))
    return _first(kinds, read)


def differs(bound: str, here: str) -> bool:
    """Tell whether a file that is bound to one device lies on another."""
    kind, _, of_file = bound.partition(":")
    own_kind, _, own = here.partition(":")
    return bool(bound) and kind == own_kind and of_file != own


def _first(kinds: list[tuple[str, tuple[str, ...]]], read: Callable[[str], str]) -> str:
    for kind, names in kinds:
        for name in names:
            text = read(name)
            if text:
                return _hashed(kind, text)
    return ""


def _hashed(kind: str, text: str) -> str:
    return f"{kind}:{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
