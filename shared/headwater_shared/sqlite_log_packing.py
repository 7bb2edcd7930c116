"""How the SQLite log keeps a record's body and headers in few bytes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headwater_shared.squeeze import squeezed, unsqueezed

_COMPRESS_FROM = 200  # bytes: below, zlib's own header and tables eat the gain
_PLAIN, _ZLIB = b"\x00", b"\x01"  # the first byte of a stored body

WORDS: tuple[str, ...] = (
    "ce_specversion", "1.0", "ce_id", "ce_type", "ce_source", "ce_time", "content-type", "application/avro",
    "region", "traceparent", "io.headwater.frame", "io.headwater.anomaly", "io.headwater.heartbeat",
    "io.headwater.clock", "io.headwater.have", "io.headwater.alert",
)  # fmt: skip
"""What headers mostly consist of; stored by number, since a clock record's headers outweigh its body. Append only."""
_NUMBERS: dict[str, int | str] = {word: number for number, word in enumerate(WORDS)}


def packed(body: bytes) -> bytes:
    if len(body) > _COMPRESS_FROM:
        small = squeezed(body)
        if len(small) < len(body):
            return _ZLIB + small
    return _PLAIN + body


def unpacked(stored: bytes) -> bytes:
    return unsqueezed(stored[1:]) if stored[:1] == _ZLIB else stored[1:]


def packed_headers(headers: Mapping[str, str]) -> bytes:
    words = [word for pair in headers.items() for word in pair]
    return msgspec.msgpack.encode([_NUMBERS.get(word, word) for word in words])


def unpacked_headers(stored: bytes) -> dict[str, str]:
    words = [
        WORDS[word] if isinstance(word, int) else word
        for word in msgspec.msgpack.decode(stored, type=list[int | str])
    ]
    return dict(zip(words[::2], words[1::2], strict=True))
