"""Compression of everything that is stored: zlib's format, by ISA-L, which writes it six times as fast as zlib does, and reads it twice as fast."""

from __future__ import annotations

from isal import isal_zlib

_LEVEL = 2


def squeezed(body: bytes) -> bytes:
    """Compress.

    Any zlib reads it. The bytes may differ from machine to machine, for ISA-L has code for each kind of processor: compare
    and hash what they hold, never them.
    """
    return isal_zlib.compress(body, _LEVEL)


def unsqueezed(body: bytes) -> bytes:
    """Decompress what `squeezed` made, or any zlib.

    Raises:
        isal_zlib.error: it is damaged.
    """
    return isal_zlib.decompress(body)
