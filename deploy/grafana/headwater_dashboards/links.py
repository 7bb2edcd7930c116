"""Where the dashboards lead: to each other, and out to what an alert names."""

from __future__ import annotations

from headwater_dashboards.panels import Column

FLEET, DEVICE, FINDINGS, PIPELINE = (
    "headwater-fleet",
    "headwater-device",
    "headwater-findings",
    "headwater-pipeline",
)
"""The uids of the dashboards: they are part of every link that anyone has kept."""

_TIME = "${__url_time_range}"
OF_ROW = f"/d/{DEVICE}?var-site=${{__data.fields.site}}&var-device=${{__data.fields.device}}&${{level:queryparam}}&{_TIME}"
"""From a row of a table, with the fields `site` and `device`, to that device."""

TO_DEVICE = Column(link=OF_ROW, says="Show this device", width=130)
TO_SITE = Column(
    link=f"/d/{FLEET}?var-site=${{__value.raw}}&${{level:queryparam}}&{_TIME}",
    says="Show this site",
    width=100,
)
OUT = Column(link="${__value.raw}", says="Open")
"""A cell that holds an address."""
