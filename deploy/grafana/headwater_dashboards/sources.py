"""The two data sources, by the uids that `deploy/grafana/provisioning/` gives them, and what a query of each is.

The SDK has no model for the language of InfluxDB: `InfluxQuery` is one, and is registered so that the SDK reads it back.
"""

from __future__ import annotations

from typing import Any, Self

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import DataqueryConfig, register_dataquery_variant
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

INFLUX = DataSourceRef(type_val="influxdb", uid="headwater-influx")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="headwater-prometheus")


class InfluxQuery(Dataquery):
    """A raw query of InfluxQL, as Grafana keeps it in a panel."""

    def __init__(self, query: str, *, table: bool, alias: str = "", ref_id: str = "") -> None:
        """`table`: rows as they are; else a line for each column and set of tags, called `alias` (`$col`, `$tag_metric`)."""
        self.query, self.table, self.alias, self.ref_id = query, table, alias, ref_id

    def to_json(self) -> dict[str, object]:
        """Return what stands in the dashboard."""
        named = {"alias": self.alias} if self.alias else {}
        return {
            "datasource": INFLUX,
            "query": self.query,
            "rawQuery": True,
            "refId": self.ref_id,
            "resultFormat": "table" if self.table else "time_series",
            **named,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` made; the SDK calls it.

        Raises:
            KeyError, ValueError: it is something else.
        """
        if not data["rawQuery"]:
            raise ValueError("only raw queries are read")
        table = {"table": True, "time_series": False}[data["resultFormat"]]
        return cls(data["query"], table=table, alias=data.get("alias", ""), ref_id=data["refId"])


class Made(Builder[Dataquery]):
    """A query that is ready: the SDK's panels take builders."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def register() -> None:
    """Tell the SDK how to read our queries."""
    register_dataquery_variant(DataqueryConfig("influxdb", InfluxQuery.from_json))


def rows(query: str) -> Made:
    """Ask InfluxDB for rows of a table."""
    return Made(InfluxQuery(" ".join(query.split()), table=True))


def lines(query: str, alias: str = "") -> Made:
    """Ask InfluxDB for lines over time, or for numbers."""
    return Made(InfluxQuery(" ".join(query.split()), table=False, alias=alias))


def over_time(expr: str, legend: str = "") -> Made:
    """Ask Prometheus for lines over time."""
    return Made(
        prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).range().legend_format(legend).build()
    )


def now(expr: str, legend: str = "") -> Made:
    """Ask Prometheus for numbers as they are at the end of the time that is shown."""
    return Made(
        prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).instant().legend_format(legend).build()
    )


def labels(expr: str) -> Made:
    """Ask Prometheus for rows of a table, a column each label."""
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).instant().format(PromQueryFormat.TABLE)
    return Made(query.build())
