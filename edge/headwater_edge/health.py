"""What the agent says of itself: status for people, health for supervisors."""

from __future__ import annotations

from typing import Any

import msgspec

from headwater_edge.aside import all_aside
from headwater_edge.detection.told import troubles
from headwater_edge.pipeline import Agent
from headwater_edge.presence import OFFLINE, SILENT
from headwater_edge.pressure import MORE_QUOTA

_NAMED = 20
"""Devices that the status names, the longest unheard first."""


def status(agent: Agent) -> dict[str, Any]:
    """Return the agent's state in numbers; safe from any thread, each number by itself."""
    state, forward = agent.state, agent.forward
    return {
        "agent": state.settings.agent,
        "epoch": f"{state.epoch:016x}",
        "tick": agent.committed,
        "series": len(agent.index),
        "evicted": agent.evicting.evicted,
        "returned": agent.evicting.returned,
        "devices": len(state.device_numbers),
        **{f"devices_{status}": devices for status, devices in state.presence.counts().items()},
        "silent_devices": state.presence.named(SILENT, _NAMED),
        "offline_devices": state.presence.named(OFFLINE, _NAMED),
        "not_listed": agent.decode.not_listed,
        "readers": state.sessions.readers,
        **msgspec.to_builtins(state.counters),
        "dead_letters": agent.letters.letters,
        "dead_letter_bytes": agent.letters.size,
        "refused": agent.letters.refused,
        "skipped": agent.decode.skipped,
        "sequence_gaps": sum(agent.decode.formats.sparkplug.gaps.values()),
        "outbox": forward.pending,
        "forward": forward.mode,
        "forwarded": forward.sent_rows,
        "replayed": forward.replayed_rows,
        "backlog": forward.outbox.waiting,
        "oldest_unsent_s": round(forward.oldest_s, 3),
        "drain_rate": round(forward.drain_rate, 1),
        "snapshots": list(agent.keeping.snapshots),
        **disk(agent),
        "commands": {
            "open": len(state.commands.open()),
            "waiting_for_their_device": agent.courier.waiting,
            **msgspec.to_builtins(state.commands.counts),
        },
        "holding_back": agent.holding,
        "early_ticks": agent.ticker.early_ends,
        "detector_troubles": troubles(state),
        **_of_damage(agent),
        **agent.put_out.status(),
    }


def _of_damage(agent: Agent) -> dict[str, Any]:
    """What became of the last file that was set aside; it stays in the status as long as the file lies there."""
    files = all_aside(agent.path)
    last = agent.set_aside
    return {
        "files_set_aside": len(files),
        "lost_ticks": last.lost_ticks if last else 0,
        "lost_outbox_rows": last.lost_rows if last else 0,
        "salvaged": last.salvaged if last else 0,
    }


def disk(agent: Agent) -> dict[str, Any]:
    """Return what the agent takes of its disk, and what it gave up for that, in numbers."""
    pressure, space = agent.pressure, agent.pressure.space
    return {
        "disk_taken": space.taken if space else 0,
        "disk_quota": pressure.quota,
        "disk_free": space.free if space else 0,
        "file_bytes": space.used + space.unused if space else 0,
        "snapshot_bytes": agent.keeping.snapshot_bytes,
        "ballast_bytes": space.ballast if space else 0,
        "ballasts_given_up": pressure.ballasts_given_up,
        "making_room": pressure.high,
        "horizon_s": pressure.horizon_us(agent.state.settings.horizon_us) // 1_000_000,
        "provisional": agent.provisional.found,
        "provisional_now": agent.provisional.broken,
    }


def health(agent: Agent) -> dict[str, Any]:
    """Return what `/health` answers: reasons if something is wrong."""
    reasons = []
    if agent.holding:
        reasons.append(f"holding back: {agent.holding}; {agent.pressure.hint}")
        if agent.provisional.broken:
            reasons.append(f"limits broken by readings that wait: {agent.provisional.broken}; see the log")
    if agent.pressure.high:
        reasons.append(
            f"the disk quota is nearly reached: fine windows are coalesced ({agent.state.counters.coalesced} so far), and "
            f"the dedupe horizon is 1/{agent.pressure.horizon_shrunk}; {MORE_QUOTA}"
        )
    if agent.pressure.quota > agent.pressure.asked_quota:
        reasons.append(
            f"edge.disk.quota is too small: the agent's state needs {agent.pressure.quota:,} bytes"
        )
    if agent.pressure.lacks_ballast:
        reasons.append("the disk has no room for the ballast; free space")
    if agent.letters.full:
        reasons.append(
            "the dead letters are full, and messages that cannot be read are not acknowledged: "
            "see 'headwater-edge dead-letters list', then replay or purge them"
        )
    reasons += agent.put_out.troubles()
    forward = agent.forward
    if forward.mode == "offline":
        reasons.append("the bus is away; everything waits in the outbox")
    said: dict[str, Any] = {"reasons": reasons, "ready": agent.committed > 0, "tick": agent.committed}
    if all_aside(agent.path):  # nothing that starting again would mend: no reason to call the agent failing
        why = f": {agent.set_aside.why}" if agent.set_aside else ""
        said["set_aside"] = [file.name for file in all_aside(agent.path)]
        said["damage"] = (
            f"a damaged file was set aside{why}; see 'headwater-edge status', and remove the file once you have looked"
        )
    if detectors := troubles(agent.state):
        said["detectors"] = detectors  # nothing that holds anything up, either
    return said | {
        "forward": forward.mode,
        "backlog": forward.outbox.waiting,
        "oldest_unsent_s": round(forward.oldest_s, 3),
    }
