"""Passwords as they are kept: scrypt (Percival 2009, RFC 7914), salted, with its cost beside it, in one line of text.

    scrypt:LOG2_N:R:P:SALT:KEY        salt and key in base64

What people choose is hashed at N = 2^14, r = 8 (16 MB and some 50 ms, 150 on a Pi 4: the paper's cost for a login); what
`random_password` makes has 160 bits, which nobody tries all of, and is hashed at 2^10, so that a thousand devices that
come back after a restart are let in within seconds.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from typing import NamedTuple

CHOSEN, RANDOM = 14, 10
"""log2 of N."""
_R, _P = 8, 1
_MOST_N, _MOST_MEMORY = 20, 256 * 1024 * 1024
_SALT, _KEY = 16, 32


class Hash(NamedTuple):
    """A password's hash, read."""

    log_n: int
    r: int
    p: int
    salt: bytes
    key: bytes


def random_password() -> str:
    """Draw a password of 160 bits, 27 characters."""
    return secrets.token_urlsafe(20)


def hashed(password: bytes, log_n: int = CHOSEN) -> str:
    """Hash a password as it is kept."""
    salt = secrets.token_bytes(_SALT)
    return _written(Hash(log_n, _R, _P, salt, _scrypt(password, log_n, _R, _P, salt)))


def read(text: str) -> Hash:
    """Read what `hashed` wrote.

    Raises:
        ValueError: it is none, or one that would cost too much to try.
    """
    try:
        kind, log_n, r, p, salt, key = text.split(":")
        found = Hash(
            int(log_n), int(r), int(p), b64decode(salt, validate=True), b64decode(key, validate=True)
        )
    except (ValueError, binascii.Error):
        raise ValueError("no scrypt:LOG2_N:R:P:SALT:KEY") from None
    costs = 128 * found.r * (2**found.log_n + found.p) if 0 < found.log_n <= _MOST_N else -1
    if kind != "scrypt" or min(found.r, found.p) < 1 or not 0 < costs < _MOST_MEMORY or found.p > 16:
        raise ValueError("no scrypt hash of a cost that an agent would pay")
    if len(found.salt) < 8 or len(found.key) != _KEY:
        raise ValueError("a salt of less than 8 bytes, or a key that is not 32 bytes long")
    return found


def matches(password: bytes, kept: Hash) -> bool:
    """Try a password; takes a while, without Python's lock: call it from a thread."""
    return hmac.compare_digest(_scrypt(password, kept.log_n, kept.r, kept.p, kept.salt), kept.key)


def decoy() -> Hash:
    """Make a hash that nothing matches: to be tried for users that are not there, so that they take as long."""
    return Hash(CHOSEN, _R, _P, secrets.token_bytes(_SALT), secrets.token_bytes(_KEY))


def _scrypt(password: bytes, log_n: int, r: int, p: int, salt: bytes) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=2**log_n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=_KEY)


def _written(kept: Hash) -> str:
    salt, key = b64encode(kept.salt).decode(), b64encode(kept.key).decode()
    return f"scrypt:{kept.log_n}:{kept.r}:{kept.p}:{salt}:{key}"
