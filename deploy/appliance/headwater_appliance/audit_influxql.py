"""Questions to a store in InfluxQL, for the audit: answers come in chunks and become columns, whatever their size.

InfluxDB 1.x answers at `/query`; InfluxDB 2 and 3 there too, for buckets that a DBRP mapping gives the name of a database.
"""

from __future__ import annotations

import base64
import http.client
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared.errors import SettingsError, StateError, TryAgain

_CHUNK = 10_000
"""Rows of one chunk at most."""
_PIECE = 1 << 20
_TIMEOUT_S = 120.0


class Source(NamedTuple):
    """A store, and who asks it."""

    url: str
    """`http://host:port`, with a path where a proxy wants one."""
    token: str = ""
    """Of InfluxDB 2 and 3."""
    user: str = ""
    password: str = ""
    prefix: str = "headwater"
    """Of the databases' names."""
    kept: Callable[[str], int | None] = lambda _: None
    """How long it keeps a level, microseconds, where it does not say so itself: InfluxDB 2 tells of every bucket that it keeps all."""


class Chunk(NamedTuple):
    """Some rows of one series; floats hold whole numbers up to 2^53, which times in microseconds are until 2255."""

    tags: dict[str, str]
    columns: list[str]
    rows: NDArray[np.float64]
    """Shape (rows, columns); NaN where a point does not have a field."""


class _Series(msgspec.Struct):
    columns: list[str]
    tags: dict[str, str] = {}
    values: list[list[float | int | str | bool | None]] = []


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


def ask(source: Source, query: str, database: str = "") -> Iterator[_Series]:
    """Ask; yield what comes, a series or a piece of one at a time.

    Raises:
        TryAgain: the store cannot be reached, or its answer was cut off.
        StateError: it answers, and says that it will not.
    """
    address = _address(source.url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    words = {"q": query, "epoch": "u", "chunked": "true", "chunk_size": _CHUNK}
    if database:
        words["db"] = database
    connection = kind(address.hostname or "", address.port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", f"{address.path.rstrip('/')}/query", urlencode(words), _headers(source))
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refusal(source, answer.status, answer.read(10_000))
        for line in _lines(answer):
            yield from _series(source, line)
    except (OSError, http.client.HTTPException) as error:
        raise TryAgain(
            f"the store at {source.url} does not answer: {error}", hint="see whether it runs, and its log"
        ) from None
    finally:
        connection.close()


def names(source: Source) -> list[str]:
    """Return the names of the store's databases that a token or user may see; see `ask` for errors."""
    return [str(row[0]) for series in ask(source, "SHOW DATABASES") for row in series.values]


def retention_us(source: Source, database: str) -> int:
    """Return how long a database keeps points, microseconds; 0: for ever, or it does not say."""
    for series in ask(source, f"SHOW RETENTION POLICIES ON {quoted(database)}", database):
        for row in series.values:
            said = dict(zip(series.columns, row, strict=True))
            if said.get("default"):
                return _duration_us(str(said.get("duration", "0s")))
    return 0


def chunks(source: Source, query: str, database: str) -> Iterator[Chunk]:
    """Ask for numbers; yield them as columns. See `ask` for errors."""
    for series in ask(source, query, database):
        yield Chunk(
            series.tags,
            series.columns,
            np.array(series.values, np.float64).reshape(-1, len(series.columns)),
        )


def quoted(name: str) -> str:
    """Return an identifier of InfluxQL."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _address(url: str) -> SplitResult:
    found = urlsplit(url)
    if found.scheme not in {"http", "https"} or not found.hostname:
        raise SettingsError(f"{url!r} is no address of a store", hint="write it as http://127.0.0.1:8086")
    return found


def _headers(source: Source) -> dict[str, str]:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if source.token:
        headers["Authorization"] = f"Token {source.token}"
    elif source.user:
        pair = base64.b64encode(f"{source.user}:{source.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    return headers


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the lines of an answer: a chunk is one, however the connection cuts it."""
    rest = b""
    while piece := answer.read1(_PIECE):
        *whole, rest = (rest + piece).split(b"\n") if b"\n" in piece else (rest + piece,)
        yield from filter(None, whole)
    if rest.strip():
        yield rest


def _series(source: Source, line: bytes) -> Iterator[_Series]:
    try:
        found = msgspec.json.decode(line, type=_Answer)
    except msgspec.DecodeError as error:
        raise StateError(
            f"{source.url} does not answer as InfluxDB does: {error}", hint="check the address"
        ) from None
    errors = [found.error, *(result.error for result in found.results)]
    for said in filter(None, errors):
        raise StateError(f"the store at {source.url} says: {said}", hint="docs/influx.md, the audit")
    for result in found.results:
        yield from result.series


def _refusal(source: Source, status: int, body: bytes) -> StateError | TryAgain:
    said = body.decode(errors="replace").strip()
    if status in {401, 403}:
        return StateError(
            f"the store at {source.url} does not let us read ({status}): {said}",
            hint="set token, or user and password, in [cloud.influx]; the token must be allowed to read the buckets",
        )
    if status == 429 or status >= 500:
        return TryAgain(f"the store at {source.url} answers {status}: {said}", hint="see its log")
    return StateError(f"the store at {source.url} answers {status}: {said}", hint="check the address")


def _duration_us(text: str) -> int:
    """Read a length of time as Go writes it, `168h0m0s`."""
    units = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
