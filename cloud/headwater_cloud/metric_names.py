"""The cloud side's metrics: what `/metrics` of its process, or of its workers, shows beside what agents tell."""

from __future__ import annotations

from headwater_shared.metric import Kind, Shown, by_name

CLOUD = "headwater_cloud_"


def _count(name: str, text: str, *labels: str) -> Shown:
    return Shown(f"{CLOUD}{name}_total", "counter", text, labels)


def _now(name: str, text: str, *labels: str, kind: Kind = "gauge") -> Shown:
    return Shown(CLOUD + name, kind, text, labels)


_PROCESS = (
    _now("build_info", "1; the version of the software.", "version"),
    _count("records", "Records read from the bus."),
    _count("frames", "Frames taken in, repeats not counted."),
    _count("parts", "Parts taken in."),
    _count("windows_written", "Windows written, each time they changed."),
    _count("rollups", "Rollups of sites, and of all sites, taken in by second stages."),
    _count("compared_windows", "Windows of cohorts in shards taken in by comparisons."),
    _count("compared_late_windows", "Windows of cohorts in shards that came for windows that are no longer kept."),
    _count("outliers", "Devices found to be outliers among their peers, or found no longer."),
    _count("anomalies", "Anomalies taken in."),
    _count("commands", "Records of commands to devices taken in."),
    _count("repeated_rows", "Rows that came again and were dropped."),
    _count("clock_records_ignored", "Clock records too far from their append time."),
    _count("evidence_forgotten", "Evidence of patterns let go, for it was old, or one of too many of its key."),
    _count("commits", "Commits of the cloud's file; of a worker, checkpoints."),
    _count("dead_letters", "What was not taken.", "reason"),
    _count("reports", "Reports about agents' streams: gap, went-back, began-anew, another-body, late.", "kind"),
    _count("alert_changes", "Alerts that fired or were resolved.", "state"),
    _count("shard_parts", "Parts taken in, by shard.", "shard"),
    _now("shard_skew_ratio", "Parts of the busiest shard against the mean of this process's, over the last minutes."),
    _now("lag_records", "Records appended and not yet read (on Kafka: of the shards that this process holds)."),
    _now("outputs_waiting", "Outputs committed and not yet on the bus."),
    _now("shards", "Shards that this process works on, of those that had input."),
    _now("troubles", "Reasons for which /health fails."),
    _count("spans", "Spans of traces, by what became of them: sent, or dropped, for the collector was away or slow.", "became"),
    _now("last_turn_seconds", "How long ago the loop last went round."),
    _count("status_frames", "Status frames of agents taken in."),
    _count("status_values_unknown", "Values in them that this version does not know, and does not show."),
    _now("commit_seconds", "How long commits took.", kind="histogram"),
    _now("commit_latency_seconds", "From the tick of the agent that put a row out, which is the arrival of the reading behind it, until it is"
         " committed here; not of a backlog.", kind="histogram"),
    _now("notification_latency_seconds", "From the event time of what a notification tells of, until the route took it; first messages of incidents.",
         "route", kind="histogram"),
    _now("notification_send_seconds", "How long the receiver of a route took to take a message.", "route", kind="histogram"),
)  # fmt: skip

_FILE = (
    _now("file_bytes", "Bytes of the cloud's file and its log."),
    _now("disk_free_bytes", "Bytes that are free on the disk of the cloud's file."),
    _now("complete_lag_seconds", "How far behind this machine's clock all windows are complete, of the agent that is furthest behind and not silent."),
    _now("clock_lag_seconds", "How far behind this machine's clock the clock of the shard is that is furthest behind: operators' time stands if it grows."),
    _now("agents", "Agents by whether they are heard: heard or silent.", "state"),
    _now("alerts_open", "Alerts that are open (firing or acknowledged), by severity.", "severity"),
)  # fmt: skip

_NOTIFY = (
    _count("notifications_sent", "Notifications delivered.", "route"),
    _count("notifications_failed", "Tries that did not deliver.", "route"),
    _now("notifications_waiting", "Notifications that wait.", "route"),
    _now("notifications_refused", "Notifications that were refused, and that nobody had tried again.", "route"),
    _now("notifications_oldest_seconds", "How long the oldest waits.", "route"),
    _now("notifications_failing", "1 while the route's last try failed.", "route"),
)  # fmt: skip

SINK = by_name((
    Shown("headwater_sink_points_total", "counter", "Points that the store took."),
    Shown("headwater_sink_requests_total", "counter", "Requests to the store."),
    Shown("headwater_sink_requests_failed_total", "counter", "Requests that the store did not take, and that are tried again."),
    Shown("headwater_sink_splits_total", "counter", "Requests that were cut in halves, for a line of it was refused."),
    Shown("headwater_sink_points_beyond_retention_total", "counter", "Points that the store dropped: older than it keeps them."),
    Shown("headwater_sink_points_left_out_total", "counter", "Points that were not written: beyond max_series."),
    Shown("headwater_sink_dead_letters", "gauge", "Points that the store refused for ever, or that could not be made."),
    Shown("headwater_sink_tag_sets", "gauge", "Distinct sets of tags that were written."),
    Shown("headwater_sink_changes_behind", "gauge", "Commits of the cloud side that are not in the store yet."),
    Shown("headwater_sink_behind_seconds", "gauge", "How long ago the oldest commit of the cloud side was made that is not in the store yet; 0: there is none."),
    Shown("headwater_sink_catching_up", "gauge", "Whether older rows are being written beside."),
    Shown("headwater_sink_failing", "gauge", "Whether the store takes nothing now."),
    Shown("headwater_sink_write_seconds", "histogram", "How long the store took to answer."),
))  # fmt: skip
"""Of the process that writes into a time series store."""

BY_NAME = by_name((*_PROCESS, *_FILE, *_NOTIFY))
"""All of them, by name."""

OF_AGENTS = by_name((
    Shown("headwater_agent_status_age_seconds", "gauge", "How long ago the agent's last status frame came here.", ("agent", "site")),
    Shown("headwater_agent_clock_offset_seconds", "gauge", "The agent's clock less the bus's, when its last status frame was appended.",
          ("agent", "site")),
))  # fmt: skip
"""What the cloud adds to what agents tell."""


def cloud(name: str) -> Shown:
    """Return a metric by the end of its name."""
    return BY_NAME[CLOUD + name]
