"""Asks InfluxDB by InfluxQL and Prometheus by PromQL, as a panel does."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import msgspec

from headwater_shared.errors import TryAgain

_WAIT_S = 30
Row = dict[str, object]


class _Series(msgspec.Struct):
    columns: list[str]
    values: list[list[object]] = []
    tags: dict[str, str] = {}


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""


class _Said(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


def influxql(url: str, query: str) -> list[Row]:
    """Return the rows of all series, with tags and columns by name; times are in microseconds.

    Raises:
        TryAgain: it does not answer, or what it says is an error.
    """
    said = msgspec.json.decode(_post(url, "/query", {"q": query, "epoch": "u"}), type=_Said)
    wrong = next((one.error for one in said.results if one.error), said.error)
    if wrong:
        raise TryAgain(f"InfluxDB: {wrong} ({query})")
    return [
        {**series.tags, **dict(zip(series.columns, row, strict=True))}
        for one in said.results
        for series in one.series
        for row in series.values
    ]


def promql(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Return the labels and the value of each series, now.

    Raises:
        TryAgain: it does not answer, or takes the query for wrong.
    """
    said = msgspec.json.decode(_post(url, "/api/v1/query", {"query": query}))
    return [(one["metric"], float(one["value"][1])) for one in said["data"]["result"]]


def get(url: str, path: str) -> bytes:
    """Return what a server has at a path.

    Raises:
        TryAgain: it does not answer, or with an error.
    """
    return _ask("GET", url, path, None)


def _post(url: str, path: str, form: Mapping[str, str]) -> bytes:
    return _ask("POST", url, path, urlencode(form))


def _ask(how: str, url: str, path: str, body: str | None) -> bytes:
    where = urlsplit(url)
    asked = http.client.HTTPConnection(where.hostname or "", where.port, timeout=_WAIT_S)
    try:
        asked.request(how, path, body, {"content-type": "application/x-www-form-urlencoded"} if body else {})
        answer = asked.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise TryAgain(f"{url}{path}: {error}") from error
    finally:
        asked.close()
    if answer.status != http.HTTPStatus.OK:
        raise TryAgain(f"{url}{path} answers {answer.status}: {said[:300].decode(errors='replace')}")
    return said
