"""The pipeline: does all arrive, how far behind is it, where does it wait, and what was not taken."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import Panel

from headwater_dashboards import panels, variables
from headwater_dashboards.links import PIPELINE
from headwater_dashboards.pages import Section, page
from headwater_dashboards.panels import Column, listed, number, over_time
from headwater_dashboards.sources import PROMETHEUS, labels, now
from headwater_dashboards.sources import over_time as asked

_AGENT = '{agent=~"$agent"}'


def _rate(metric: str, by: str = "", labelled: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{labelled}[$__rate_interval]))"


def _of_agent(gauge: str) -> str:
    """A line an agent, also where another worker shows it now, or its site changed."""
    return f"max by (agent) ({gauge}{_AGENT})"


def made() -> dashboard.Dashboard:
    return page(
        PIPELINE,
        "Headwater: pipeline",
        "From the agents to the stores: rate, backlog, lag, completeness, dead letters, disks, notifications. Numbers of Prometheus.",
        [variables.agent("headwater_agent_status_age_seconds")],
        [
            Section("", _numbers()),
            Section("How far behind", [_complete(), _latency()]),
            Section("Where it waits", [_outbox(), _lag(), _oldest()]),
            Section("What goes through", [_readings(), _windows(), _commits()]),
            Section("What was not taken, what came twice or late", [_dead(), _dead_cloud(), _again()]),
            Section("Agents", [_agents(), _clock(), _written(), _disk()]),
            Section("The cloud side", [_cloud_disk(), _reports(), _notified()]),
            Section("Into InfluxDB", [_sink_behind(), _sink_points(), _sink_refused()]),
        ],
    )


def _numbers() -> list[Panel]:
    return [
        number(
            "Agents not heard", "Agents whose silence is longer than it may be.", PROMETHEUS,
            now('sum(headwater_cloud_agents{state="silent"})'), unit="none", steps=panels.NONE_IS_GOOD, none="?",
        ),
        number(
            "Complete, behind", "How far behind the clock all windows are complete, of the agent that is furthest behind and not silent.",
            PROMETHEUS, now("max(headwater_cloud_complete_lag_seconds)"), unit="s", steps={None: "green", 120: "orange", 600: "red"}, none="?",
        ),
        number(
            "Waits on agents", "Rows in the outboxes of all agents that the cloud side is not known to have.", PROMETHEUS,
            now(f"sum(headwater_agent_outbox_rows{_AGENT})"), unit="short", none="?",
        ),
        number(
            "Waits on the bus", "Records that were appended and not yet read by the cloud side; on Kafka the consumers' lag.", PROMETHEUS,
            now("sum(headwater_cloud_lag_records)"), unit="short", steps={None: "green", 10_000: "orange", 1_000_000: "red"}, none="?",
        ),
        number(
            "Readings a second", "What the agents take in, together.", PROMETHEUS, now(_rate("headwater_agent_readings_total", "", _AGENT)),
            unit="rps", none="?",
        ),
        number(
            "Dead letters, last hour", "Messages and records that could not be taken in, on agents and in the cloud; each is kept with its bytes.",
            PROMETHEUS,
            now("sum(increase(headwater_agent_dead_letters_total[1h])) + sum(increase(headwater_cloud_dead_letters_total[1h]))"),
            unit="short", steps=panels.NONE_IS_BETTER, none="?", decimals=0,
        ),
    ]  # fmt: skip


def _complete() -> Panel:
    says = "How far behind its own clock each agent's windows are out, and (cloud) how far behind they are complete in the cloud: the watermark's lag."
    return over_time(
        "Completeness and watermark lag", says, PROMETHEUS,
        asked(_of_agent("headwater_agent_complete_lag_seconds"), "{{agent}}"),
        asked("max(headwater_cloud_complete_lag_seconds)", "cloud, complete"),
        asked("max(headwater_cloud_clock_lag_seconds)", "cloud, the operators' clock"),
        unit="s",
    )  # fmt: skip


def _latency() -> Panel:
    says = "From the arrival of a reading at its agent until its window is committed in the cloud, without what was a backlog."
    name = "headwater_cloud_commit_latency_seconds_bucket"
    return over_time(
        "From the device to the cloud's file", says, PROMETHEUS,
        *(asked(f"histogram_quantile({q}, sum by (le) (rate({name}[$__rate_interval])))", f"{q:.0%} within") for q in (0.5, 0.95, 0.99)),
        unit="s",
    )  # fmt: skip


def _outbox() -> Panel:
    says = (
        "Rows in each agent's outbox: it grows while the bus or the cloud side is away, and drains by itself."
    )
    return over_time(
        "Outboxes", says, PROMETHEUS, asked(_of_agent("headwater_agent_outbox_rows"), "{{agent}}"),
        asked(_of_agent("headwater_agent_backlog_rows"), "{{agent}}, backlog"), unit="short", width=8,
    )  # fmt: skip


def _lag() -> Panel:
    says = "Records on the bus that the cloud side has not read (on Kafka the lag of each worker), and outputs that are not on the bus yet."
    return over_time(
        "Lag on the bus", says, PROMETHEUS, asked("headwater_cloud_lag_records", "{{instance}}, to read"),
        asked("headwater_cloud_outputs_waiting", "{{instance}}, to put out"), unit="short", width=8,
    )  # fmt: skip


def _oldest() -> Panel:
    says = (
        "How old the oldest row is that an agent could not give to the bus: how long the link has been down."
    )
    return over_time(
        "Oldest that waits",
        says,
        PROMETHEUS,
        asked(_of_agent("headwater_agent_oldest_unsent_seconds"), "{{agent}}"),
        unit="s",
        width=8,
    )


def _readings() -> Panel:
    return over_time(
        "Readings a second, by agent", "Readings that each agent took in, duplicates too.", PROMETHEUS,
        asked(_rate("headwater_agent_readings_total", "agent", _AGENT), "{{agent}}"), unit="rps", width=8,
    )  # fmt: skip


def _windows() -> Panel:
    says = "What the cloud side takes in and writes: frames of agents, their parts, windows each time that they changed."
    return over_time(
        "Rows a second", says, PROMETHEUS,
        asked(_rate("headwater_cloud_frames_total"), "frames"), asked(_rate("headwater_cloud_parts_total"), "parts"),
        asked(_rate("headwater_cloud_windows_written_total"), "windows"), unit="rowsps", width=8,
    )  # fmt: skip


def _commits() -> Panel:
    says = "How long the commits of the cloud's file take, half of them and nearly all."
    name = "headwater_cloud_commit_seconds_bucket"
    return over_time(
        "Commits", says, PROMETHEUS,
        *(asked(f"histogram_quantile({q}, sum by (le) (rate({name}[$__rate_interval])))", f"{q:.0%} within") for q in (0.5, 0.99)),
        unit="s", width=8,
    )  # fmt: skip


def _dead() -> Panel:
    says = "Messages a minute that an agent could not take in; kept with their bytes: `headwater-edge dead-letters list`."
    return over_time(
        "Dead letters of agents", says, PROMETHEUS,
        asked(f"60 * {_rate('headwater_agent_dead_letters_total', 'agent', _AGENT)}", "{{agent}}"), unit="opm", width=8,
    )  # fmt: skip


def _dead_cloud() -> Panel:
    says = "Records a minute that the cloud side could not take in, by reason: `headwater-cloud dead-letters list`."
    return over_time(
        "Dead letters of the cloud side", says, PROMETHEUS,
        asked(f"60 * {_rate('headwater_cloud_dead_letters_total', 'reason')}", "{{reason}}"), unit="opm", width=8,
    )  # fmt: skip


def _again() -> Panel:
    says = "Readings a second that were sent again and counted once, and those that came after their window had closed and corrected it."
    return over_time(
        "Sent again, and late", says, PROMETHEUS,
        asked(_rate("headwater_agent_duplicates_total", "", _AGENT), "sent again"),
        asked(_rate("headwater_agent_late_readings_total", "", _AGENT), "late"), unit="rps", width=8,
    )  # fmt: skip


def _agents() -> Panel:
    says = "Each agent: how long ago it was heard, what waits in its outbox, whether it holds back, and reasons for which it says it is not well."
    columns = {
        "Time": Column(hidden=True),
        "agent": Column(width=150),
        "site": Column(width=100),
        "Value #A": Column(named="heard, ago", unit="dtdurations"),
        "Value #B": Column(named="rows that wait", unit="short"),
        "Value #C": Column(named="dead letters kept", unit="short"),
        "Value #D": Column(named="holds back", unit="bool_yes_no"),
        "Value #E": Column(named="troubles", unit="none"),
    }
    queries = [
        labels(f"max by (agent, site) ({name}{_AGENT})")
        for name in (
            "headwater_agent_status_age_seconds", "headwater_agent_outbox_rows", "headwater_agent_dead_letters_kept",
            "headwater_agent_holding_back", "headwater_agent_troubles",
        )
    ]  # fmt: skip
    return listed(
        "Agents",
        says,
        PROMETHEUS,
        *queries,
        columns=columns,
        height=7,
        newest_first="heard, ago",
        merged=True,
    )


def _clock() -> Panel:
    says = "Each agent's clock less that of the bus. Readings that devices stamp themselves do not depend on it; those without a time do."
    return over_time(
        "Clocks of agents", says, PROMETHEUS, asked(_of_agent("headwater_agent_clock_offset_seconds"), "{{agent}}"),
        unit="s", width=8, from_zero=False,
    )  # fmt: skip


def _written() -> Panel:
    says = "Bytes a second that each agent has written to its disk: SD cards wear out by it."
    return over_time(
        "Bytes written by agents", says, PROMETHEUS,
        asked(_rate("headwater_agent_disk_written_bytes_total", "agent", _AGENT), "{{agent}}"), unit="Bps", width=8,
    )  # fmt: skip


def _disk() -> Panel:
    says = "How much of its quota each agent has taken: near 1 fine windows are let go for coarser ones, at 1 it holds back."
    query = f"{_of_agent('headwater_agent_disk_taken_bytes')} / ({_of_agent('headwater_agent_disk_quota_bytes')} > 0)"
    return over_time(
        "Disk quota of agents", says, PROMETHEUS, asked(query, "{{agent}}"), unit="percentunit", width=8
    )


def _cloud_disk() -> Panel:
    says = "The cloud's file, and what is free on its disk."
    return over_time(
        "Disk of the cloud side", says, PROMETHEUS, asked("max(headwater_cloud_file_bytes)", "the file"),
        asked("min(headwater_cloud_disk_free_bytes)", "free"), unit="bytes", width=8,
    )  # fmt: skip


def _reports() -> Panel:
    says = "What the cloud side found wrong with agents' streams: gaps, files that went back, late rows. Gaps close when the missing rows come."
    query = "sum by (kind) (increase(headwater_cloud_reports_total[1h]))"
    return over_time(
        "Reports of the last hour", says, PROMETHEUS, asked(query, "{{kind}}"), unit="short", width=8
    )


def _notified() -> Panel:
    says = "Notifications that wait, by route, and those that were refused."
    return over_time(
        "Notifications that wait", says, PROMETHEUS, asked("sum by (route) (headwater_cloud_notifications_waiting)", "{{route}}"),
        asked("sum by (route) (headwater_cloud_notifications_refused)", "{{route}}, refused"), unit="short", width=8,
    )  # fmt: skip


def _sink_behind() -> Panel:
    says = "How long ago the oldest commit of the cloud side was made that is not in InfluxDB yet: so old are the other dashboards. Nothing is lost while it grows."
    return over_time(
        "Store is behind by", says, PROMETHEUS, asked("max(headwater_sink_behind_seconds)", "behind"),
        unit="s", width=8,
    )  # fmt: skip


def _sink_points() -> Panel:
    says = "Points a second that InfluxDB took, and how long it took to answer, for nearly all requests."
    slow = (
        "histogram_quantile(0.99, sum by (le) (rate(headwater_sink_write_seconds_bucket[$__rate_interval])))"
    )
    return over_time(
        "Points into the store", says, PROMETHEUS, asked(_rate("headwater_sink_points_total"), "points a second"),
        asked(slow, "99% answered within, s"), unit="short", width=8,
    )  # fmt: skip


def _sink_refused() -> Panel:
    says = "What InfluxDB did not take: tries of the last hour that are made again, points that it refused for ever, points beyond the limit of distinct tags."
    return over_time(
        "Not taken by the store", says, PROMETHEUS,
        asked("sum(increase(headwater_sink_requests_failed_total[1h]))", "tries that failed, last hour"),
        asked("sum(headwater_sink_dead_letters)", "refused for ever"),
        asked("sum(increase(headwater_sink_points_left_out_total[1h]))", "beyond max_series, last hour"), unit="short", width=8,
    )  # fmt: skip
