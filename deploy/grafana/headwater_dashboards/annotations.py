"""What was found, drawn into the charts of a device: Grafana asks InfluxDB for them, and reads columns by their names."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import AnnotationQuery

from headwater_dashboards.sources import INFLUX


class Marks(AnnotationQuery):
    """Rows of InfluxDB as marks over the time from `time` to a column of theirs.

    Grafana's plugin reads such a query from `target`: `text` is any column whose name has it in it; the end is a column by its whole
    name, `measurement.column`; and a row of which a column is empty is left out.
    """

    def __init__(
        self, name: str, colour: str, query: str, *, tags: str, text: str = "text", end: str = ""
    ) -> None:
        """`tags`: the column that Grafana shows as a tag; `end`: in milliseconds, without it a mark is a moment."""
        super().__init__(name=name, datasource=INFLUX, enable=True, icon_color=colour)
        self._asked: dict[str, object] = {
            "fromAnnotations": True,
            "query": " ".join(query.split()),
            "queryType": "tags",
            "rawQuery": True,
            "refId": "Anno",
            "tagsColumn": tags,
            "textColumn": text,
            "timeEndColumn": end,
            "titleColumn": "",
            "name": name,
        }

    def to_json(self) -> dict[str, object]:
        """Return what stands in the dashboard."""
        return {**super().to_json(), "target": self._asked}
