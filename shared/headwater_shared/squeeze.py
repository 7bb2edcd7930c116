"""Compression of everything that is stored: zlib's format, by ISA-L, which writes it six times as fast as zlib does."""

from __future__ import annotations

from isal import isal_zlib

_LEVEL = 2


def squeezed(body: bytes) -> bytes:
    """Compress.

    Any zlib reads it. The bytes may differ from machine to machine, for ISA-L has code for each kind of processor: compare
    and hash what they hold, never them.
    """
    return isal_zlib.compress(body, _LEVEL)
