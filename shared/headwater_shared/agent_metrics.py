"""The agent's metrics: `headwater_edge_*` on its own page, and those that its status frames tell as `headwater_agent_*` on the cloud's.

It stands here because both sides must agree on it: the agent's collectors take names and texts from it, and the cloud shows
what a frame holds only under a name that it knows.
"""

from __future__ import annotations

from headwater_shared.metric import Kind, Shown, by_name

EDGE, AGENT = "headwater_edge_", "headwater_agent_"
"""What the names begin with: on the agent's page, and on the cloud's."""


def _count(name: str, text: str, *labels: str, told: bool = True) -> Shown:
    return Shown(f"{EDGE}{name}_total", "counter", text, labels, told)


def _now(name: str, text: str, *labels: str, told: bool = True, kind: Kind = "gauge") -> Shown:
    return Shown(EDGE + name, kind, text, labels, told)


_AGENT = (
    _now("build_info", "1; the version of the software.", "version"),
    _now("start_time_seconds", "When the process began, by the clock of the machine, seconds since 1970."),
    _count("messages", "Messages taken in.", told=False),
    _count("readings", "Readings taken in, duplicates too."),
    _count("readings_counted", "Readings counted in windows."),
    _count("duplicates", "Readings that were known and not counted again: by transport (MQTT's DUP, HTTP's idempotency key), by meaning"
           " (series, time and value in memory), by horizon (the same, found in the journal).", "by"),
    _count("late_readings", "Readings that came after their window had been closed."),
    _count("restamped_readings", "Readings whose time the agent set: clamped (their stamp lay in the future), restamped (without a time, after the clock"
           " was set), held (without a time, by a clock that was not believed).", "how", told=False),
    _count("beyond_horizon_readings", "Readings that could not be told from a resend, and became dead letters."),
    _count("provisional_limits", "Limits found broken, or held again, by readings that had to wait for the disk.", told=False),
    _count("values_skipped", "Values that are no readings (text, null), and messages of topics that bring none.", told=False),
    _count("dead_letters", "Messages, whole or in part, that became dead letters."),
    _now("dead_letters_kept", "Dead letters that are kept."),
    _now("dead_letters_kept_bytes", "Bytes of the dead letters that are kept.", told=False),
    _count("messages_refused", "Messages that were not taken because the dead letters were full."),
    _count("messages_not_listed", "Messages of devices that may not speak (edge.devices.only).", told=False),
    _count("sequence_gaps", "Messages missing by a device's own sequence numbers.", "device"),
    _count("clock_set_back", "Corrections of the agent's clock backwards."),
    _now("clock_synchronised", "1 while the agent's clock is believed."),
    _now("clock_timestamp_seconds", "What the agent's clock shows, seconds since 1970.", told=False),
    _now("series", "Series known."),
    _count("series_evicted", "Series that were let go since the start, for they were idle (edge.series_idle).", told=False),
    _count("series_returned", "Series that came back after they had been let go.", told=False),
    _now("devices", "Devices by status: online, silent (connected, and send nothing), offline.", "status"),
    _now("readers", "Filters under which others read alerts and egress at the listener.", told=False),
    _count("ticks", "Ticks committed, since the file was made.", told=False),
    _count("early_ticks", "Ticks that ended early.", told=False),
    _count("parts", "Parts put out, revisions too.", told=False),
    _count("revisions", "Parts put out again after late readings.", told=False),
    _count("parts_coalesced", "Parts of fine windows let go before anyone was given them, for coarser ones hold their readings.", told=False),
    _count("anomalies", "Anomalies put out, begins and ends."),
    _now("detector_troubles", "Detectors that were set aside, or that lost what they had learned."),
    _now("complete_lag_seconds", "How far behind the agent's clock every window is out, of the device that is furthest behind; 0 while there is none."),
    _now("forward_mode", "1 for the mode of forwarding: live, backlog or offline.", "mode"),
    _count("forwarded_rows", "Outbox rows given to the bus, those that were given to it again too."),
    _count("replayed_rows", "Outbox rows given to the bus that were a backlog."),
    _now("outbox_rows", "Outbox rows that the cloud is not known to have."),
    _now("backlog_rows", "Outbox rows that go out after all that is newer."),
    _now("oldest_unsent_seconds", "How long ago the oldest row was made that the bus was not given; 0: there is none."),
    _now("drain_rows_per_second", "Rows a second that the backlog loses while it is drained.", told=False),
    _now("commands_open", "Commands that are let out and not answered."),
    _count("commands", "Commands to devices and their answers, by what became of them.", "became", told=False),
    _now("holding_back", "1 while nothing is taken in, for want of disk space or by the quota."),
    _now("making_room", "1 while the disk quota is nearly reached."),
    _now("horizon_seconds", "How far back resent readings are recognised exactly.", told=False),
    _now("disk_taken_bytes", "Bytes that count against the quota: the file, its log, its ballast, the next snapshot."),
    _now("disk_quota_bytes", "Bytes that the agent may take of its disk."),
    _now("disk_free_bytes", "Bytes that are free on the agent's disk."),
    _count("disk_written_bytes", "Bytes that the process had written to disks since it began, as the kernel counts them."),
    _now("file_bytes", "Bytes of the agent's file, free pages too.", told=False),
    _now("ballast_bytes", "Bytes of the ballast; 0: it was given up, and the disk has no room for it yet.", told=False),
    _count("ballasts_given_up", "How often the disk was full, and the ballast given up.", told=False),
    _now("files_set_aside", "Damaged state files that lie beside the one in use."),
    _now("lost_ticks", "Ticks of the last damaged file whose readings could not be read."),
    _now("lost_outbox_rows", "Outbox rows of the last damaged file that could not be read, in place of which empty frames were sent."),
    _now("salvaged_readings", "Readings of the last damaged file that became dead letters, possibly counted already."),
    _now("troubles", "Reasons for which the agent's /health fails."),
    _count("spans", "Spans of traces, by what became of them: sent, or dropped, for the collector was away or slow.", "became", told=False),
)  # fmt: skip

_PUT_OUT = (
    _count("alerts_sent", "Local alerts that were delivered.", "alert", told=False),
    _now("alerts_waiting", "Local alerts that wait.", "alert"),
    _count("alerts_dropped", "Local alerts that were dropped: the queue was full, or it took too long.", "alert", told=False),
    _count("alerts_refused", "Local alerts that were refused for good.", "alert"),
    _count("alerts_failures", "Tries to deliver a local alert that failed.", "alert"),
    _count("egress_shown", "Messages of egress that subscribers at the listener were sent.", told=False),
    _count("egress_published", "Messages of egress that the broker was given.", told=False),
    _now("egress_waiting", "Messages of egress that wait for the broker.", told=False),
    _count("egress_dropped", "Messages of egress that were dropped, for the broker did not take them.", told=False),
)  # fmt: skip

_LISTENER = (
    _now("listener_connections", "MQTT clients connected now."),
    _now("listener_unidentified_connections", "Connections that have not said who they are yet.", told=False),
    _now("listener_certificate_expiry_timestamp_seconds", "When the certificate for TLS ends, seconds since 1970."),
    _count("listener_connections_accepted", "Connections accepted.", told=False),
    _count("listener_handshakes", "TLS handshakes that succeeded.", told=False),
    _count("listener_messages", "Messages received by MQTT.", told=False),
    _count("listener_received_bytes", "Bytes received by MQTT.", told=False),
    _count("listener_acknowledgements", "PUBACKs and PUBRECs sent.", told=False),
    _count("listener_dropped", "Messages at QoS 0 dropped while nothing was taken in.", told=False),
    _count("listener_connections_ended", "Connections of clients that ended, by why.", "reason", told=False),
    _count("listener_refused", "Clients that were not let in, by reason.", "reason", told=False),
    _count("listener_malformed", "Packets that are malformed or not allowed, by reason.", "reason", told=False),
)  # fmt: skip

_HTTP = (
    _now("http_connections", "HTTP connections open now.", told=False),
    _now("http_waiting_bytes", "Bytes of bodies on the way in or waiting for the disk.", told=False),
    _count("http_connections_accepted", "HTTP connections accepted.", told=False),
    _count("http_messages", "Messages received by HTTP.", told=False),
    _count("http_received_bytes", "Bytes received by HTTP.", told=False),
    _count("http_repeated", "HTTP requests that came again under their idempotency key.", told=False),
    _count("http_answers", "HTTP answers by status.", "status", told=False),
    _count("http_refused", "HTTP requests and connections of which nothing was taken.", "reason", told=False),
)  # fmt: skip

_BROKER = (
    _now("broker_connected", "1 while the broker is connected.", "broker"),
    _count("broker_connects", "Connects to the broker.", "broker", told=False),
    _count("broker_sessions_lost", "Connects at which the broker had lost the session.", "broker", told=False),
    _count("broker_messages", "Messages received from the broker.", "broker", told=False),
    _count("broker_received_bytes", "Bytes received from the broker.", "broker", told=False),
    _count("broker_acknowledgements", "Acknowledgements sent to the broker.", "broker", told=False),
    _count("broker_retained", "Retained messages, which are skipped.", "broker", told=False),
    _count("broker_canaries", "Canaries that came back.", "broker", told=False),
    _now("broker_canary_seconds", "How long the last canary took through the broker.", "broker", told=False),
    _count("broker_left_with_broker", "Bursts of which messages were left with the broker, as the dead letters are full.", "broker", told=False),
    _count("broker_held_back", "Times that the broker was not read, as too much waited for the disk.", "broker", told=False),
    _count("broker_connections_lost", "Connections lost or failed, by reason.", "broker", "reason", told=False),
)  # fmt: skip

BY_NAME = by_name((*_AGENT, *_PUT_OUT, *_LISTENER, *_HTTP, *_BROKER))
"""All of them, by name."""

OF_DEVICES = "device"
"""A label that stays on the device's side: the cloud's metrics have none a device, so frames tell the sum."""


def edge(name: str) -> Shown:
    """Return a metric of the agent by the end of its name."""
    return BY_NAME[EDGE + name]


def on_the_cloud(metric: Shown) -> Shown:
    """Return a metric that frames tell as the cloud shows it."""
    labels = ("agent", "site", *(label for label in metric.labels if label != OF_DEVICES))
    return metric._replace(name=AGENT + metric.name.removeprefix(EDGE), labels=labels)


TOLD = {name: on_the_cloud(metric) for name, metric in BY_NAME.items() if metric.told}
"""By the agent's own name, as the cloud shows what frames tell."""
