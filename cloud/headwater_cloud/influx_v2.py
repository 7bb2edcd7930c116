"""The way to InfluxDB 2.x and 3.x: influxdb-client's own write and buckets APIs, with lines and gzip of ours. Imported only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from isal import igzip

from headwater_cloud.influx_v1 import seconds_of
from headwater_cloud.influx_write import Answer
from headwater_shared.extras import load as load_extra

_LEVEL = 1
_SHORTEST_S = 3_600
"""InfluxDB 2.x keeps nothing for less than an hour."""


class V2:
    """One store.

    Args:
        url: of its root.
        org: the organization, by name.
        token: of its API.
        timeout_s: of each answer.
    """

    def __init__(self, url: str, org: str, token: str, timeout_s: float) -> None:
        client = load_extra("influxdb_client", "influx")
        from influxdb_client.rest import ApiException
        from influxdb_client.service.write_service import WriteService
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        self._refused, self._broke = ApiException, (HTTPError, OSError)
        self._no_connection = (ConnectTimeoutError, NewConnectionError)
        self._url, self._org = url, org
        # Its own retries would be of what was built before, and wait in the call.
        self._client = client.InfluxDBClient(
            url, token, org=org, timeout=round(timeout_s * 1000), retries=False
        )
        self._write = WriteService(self._client.api_client)

    def send(self, database: str, lines: bytes, *, nanoseconds: bool) -> Answer:
        body, precision = igzip.compress(lines, _LEVEL), "ns" if nanoseconds else "us"
        return self._asked(
            lambda: self._write.post_write_with_http_info(
                self._org, database, body, precision=precision, content_encoding="gzip"
            )
        )

    def make(self, database: str, keep_us: int | None) -> Answer:
        keep_s = 0 if keep_us is None else max(_SHORTEST_S, keep_us // 1_000_000)
        rules = [{"type": "expire", "everySeconds": keep_s}] if keep_s else []
        return self._asked(
            lambda: self._client.buckets_api().create_bucket(
                bucket_name=database, retention_rules=rules, org=self._org
            )
        )

    def missing(self, database: str) -> str:
        return (
            f"make the bucket {database} in the organization {self._org}, and give the token the right to write it: "
            f"influx bucket create --org {self._org} --name {database}"
        )

    def close(self) -> None:
        self._client.close()

    def _asked(self, ask: Callable[[], object]) -> Answer:
        try:
            ask()
        except self._refused as error:
            text = error.body or error.reason or ""
            text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            after = ""
            with suppress(AttributeError):
                after = error.headers.get("Retry-After", "")
            return Answer(error.status or 0, text, seconds_of(after))
        except self._broke as error:
            return Answer(0, f"{self._url} {error}", sent=not isinstance(error, self._no_connection))
        except (
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:  # of an answer that is none of InfluxDB's
            return Answer(502, f"{type(error).__name__}: {error}")
        said = self._client.api_client.last_response
        text = said.data.decode(errors="replace") if isinstance(said.data, bytes) else str(said.data)
        return Answer(said.status, text)
