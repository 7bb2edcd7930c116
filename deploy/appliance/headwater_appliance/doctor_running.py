"""Checks of what runs: ports, agent, cloud side, the way between them, and brokers."""

from __future__ import annotations

import socket
from typing import Any

from headwater_appliance.box import Box, Process
from headwater_appliance.findings import Bad, Good, Note, Verdict
from headwater_appliance.growth import outbox_of
from headwater_appliance.look import health_of, sink_health_of
from headwater_appliance.processes import listener_of, name_of, writer_of
from headwater_appliance.shown import ago, amount
from headwater_edge import words
from headwater_shared.errors import Refused

_STUCK_S = 60.0
_CONNECT_S = 3.0


def ports(box: Box) -> Verdict:
    """Are the ports of the settings free, or ours already?"""
    edge, cloud = box.edge, box.cloud_processes
    sinks = [box.sink_process] if box.sink_process else []
    ours = {writer_of(box.edge_file), *(writer_of(process.file) for process in (*cloud, *sinks))} - {None}
    wanted = {
        "edge.health_port": (edge.health_host, edge.health_port),
        **{_health_port(box, process): (box.cloud.health_host, process.port) for process in cloud},
    }
    for process in sinks:
        wanted["cloud.influx.health_port"] = (box.cloud.health_host, process.port)
    if edge.listener.plain:
        wanted["edge.listener.port"] = (edge.listener.host, edge.listener.port)
    if edge.listener.tls.certificate:
        wanted["edge.listener.tls.port"] = (edge.listener.tls.host, edge.listener.tls.port)
    if edge.http.port is not None:
        wanted["edge.http.port"] = (edge.http.host, edge.http.port)
    fixed = {key: at for key, at in wanted.items() if at[1]}
    numbers = [port for _, port in fixed.values()]
    twice = {port for port in numbers if numbers.count(port) > 1}
    if twice:
        keys = ", ".join(key for key, (_, port) in fixed.items() if port in twice)
        return Bad(f"{keys} name the same port", "give each a port of its own")
    mine = 0
    for key, (host, port) in fixed.items():
        taken, pid = listener_of(port)
        if not taken:
            trouble = _cannot_bind(host, port)
            if trouble:
                return Bad(
                    f"{key} = {port} on {host} cannot be listened on: {trouble}",
                    "set another port or host; ports below 1024 are root's",
                )
        elif pid in ours:
            mine += 1
        elif pid is not None or not ours:
            who = f"process {pid} ({name_of(pid)})" if pid is not None else "another user's program"
            return Bad(f"{key} = {port} is taken by {who}", "end that program, or set another port")
    chosen = len(wanted) - len(fixed)
    return Good(
        f"{amount(len(fixed), 'port')}, {mine} of them in use by Headwater itself"
        + (f"; {chosen} more are chosen at the start" if chosen else "")
    )


def agent(box: Box) -> Verdict:
    """Does the agent run and answer, and is it content?"""
    pid = writer_of(box.edge_file)
    if pid is None:
        return Bad(
            "the agent does not run",
            f"start it: {box.command('headwater up')}; if it ends at once, its last lines say why",
        )
    try:
        status = words.say(box.edge_socket, "status", timeout_s=_CONNECT_S)
    except Refused as error:
        return Bad(
            f"the agent (process {pid}) runs and does not answer: {error.message}",
            f"it may be starting: look again in a minute; if it stays so, kill {pid}: 'headwater up' starts it again, nothing is lost",
        )
    if status["holding_back"]:
        return Bad(
            f"the agent (process {pid}) holds back, devices keep what they have: {status['holding_back']}",
            "see the checks free-space, forwarding and cloud-side; it goes on by itself",
        )
    if status.get("detector_troubles"):
        return Note(
            f"the agent (process {pid}) answers; {'; '.join(status['detector_troubles'])}",
            "see 'headwater-edge detectors', and docs/detection.md",
        )
    return Good(f"process {pid} answers; {status['devices']:,} devices, {status['series']:,} series")


def cloud_side(box: Box) -> Verdict:
    """Does the cloud side run and answer, and is it content?"""
    pids = {process.name: writer_of(process.file) for process in box.cloud_processes}
    down = [name for name, pid in pids.items() if pid is None]
    start = f"start it: {box.command('headwater up')}; if it ends at once, its last lines say why"
    if len(down) == len(pids):
        return Bad("the cloud side does not run: readings wait at the agent, nothing is lost", start)
    if down:
        return Bad(f"{', '.join(down)} of the cloud side does not run: the others have its shards", start)
    pid = ", ".join(map(str, pids.values()))
    health, why = health_of(box)
    if not health:
        return Bad(
            f"the cloud side (process {pid}) runs and does not answer: {why}",
            f"it may be starting: look again in a minute; if it stays so, kill {pid.replace(',', '')}: 'headwater up' starts it again, nothing is lost",
        )
    if health.get("reasons"):
        return Bad(
            f"the cloud side (process {pid}) says: {'; '.join(health['reasons'])}", "its log says more"
        )
    return Good(f"process {pid} answers; {amount(health.get('lag_records', 0), 'record')} to read")


def sink(box: Box) -> Verdict:
    """Does the store get what it is to have?"""
    process = box.sink_process
    if process is None:
        return Good("no store is set: windows are in the cloud side's own file")
    pid = writer_of(process.file)
    if pid is None:
        return Bad(
            "the sink does not run: InfluxDB gets nothing, which waits in the cloud side's file",
            f"start it: {box.command('headwater up')}; if it ends at once, its last lines say why",
        )
    health, why = sink_health_of(box)
    if not health:
        return Bad(
            f"the sink (process {pid}) runs and does not answer: {why}",
            f"it may be starting: look again in a minute; if it stays so, kill {pid}: 'headwater up' starts it again, nothing is lost",
        )
    if health.get("reasons"):
        text, _, hint = str(health["reasons"][0]).partition("\n  hint: ")
        return Bad(f"the sink (process {pid}) says: {text}", hint or "its log says more; nothing is lost")
    of = health["sink"]
    if of["dead_letters"]:
        return Note(
            f"process {pid} writes; InfluxDB refused {amount(of['dead_letters'], 'point')} for ever",
            f"{box.command('headwater-cloud sink list')} says why, then 'headwater-cloud sink retry' tries them again",
        )
    behind = f"; {amount(of['behind'], 'commit')} behind" if of["behind"] else ""
    return Good(f"process {pid} writes into {box.cloud.influx.url}{behind}")


def forwarding(box: Box) -> Verdict:
    """Does what the agent put out arrive?"""
    status = _status(box)
    waits = outbox_of(box, box.clock().now().wall_us, status.get("outbox"))
    if waits.unread:
        return (
            Good(waits.unread)
            if not box.edge_file.exists()
            else Bad(f"what waits cannot be read: {waits.unread}", "see the check 'files'")
        )
    if not waits.rows:
        return Good("the cloud side has everything")
    said = amount(waits.rows, "row")
    if waits.oldest_s is not None and waits.oldest_s > _STUCK_S:
        remedy = "see that the cloud side runs (check 'cloud-side') and can write; it catches up by itself, nothing is lost"
        if status.get("forward") == "offline":
            remedy = f"the agent cannot write to the bus: {box.bus_remedy}, and look at the agent's log"
            if _cloud_runs(box) and not health_of(box)[0]:
                remedy = (
                    "mend the cloud side first (check 'cloud-side'): it may hold the bus; nothing is lost"
                )
        elif not status:
            remedy = f"start Headwater: {box.command('headwater up')}; what waits goes out then"
        elif status.get("forward") == "backlog":
            return Note(
                f"{said} wait, the oldest for {ago(waits.oldest_s)}: a backlog is drained",
                "wait: it becomes less by itself",
            )
        return Bad(f"{said} wait in the agent's file, the oldest for {ago(waits.oldest_s)}", remedy)
    return Good(f"{said} on the way")


def broker(box: Box) -> Verdict:
    """Can the brokers of the settings be reached?"""
    if not box.edge.broker:
        return Good("none is set: devices connect to the agent")
    status = _status(box)
    for one in box.edge.broker:
        where = f"{one.host}:{one.port}"
        try:
            socket.create_connection((one.host, one.port), timeout=_CONNECT_S).close()
        except OSError as error:
            return Bad(
                f"broker {one.name} at {where} cannot be reached: {error.strerror or error}",
                f"see that it runs, and that nothing is between: nc -vz {one.host} {one.port}; or mend edge.broker.host and port",
            )
        said = status.get(f"broker {one.name}", {})
        if said and not said["connected"]:
            return Bad(
                f"broker {one.name} at {where} is there, and the agent is not connected: {said.get('why', '')}",
                "mend edge.broker (user, password, tls); the agent connects by itself",
            )
        if said.get("refused"):
            return Bad(
                f"broker {one.name} refuses {', '.join(said['refused'])}",
                "allow this agent's user to subscribe to it",
            )
    return Good(f"{', '.join(one.name for one in box.edge.broker)} can be reached")


def _status(box: Box) -> dict[str, Any]:
    try:
        return words.say(box.edge_socket, "status", timeout_s=_CONNECT_S)
    except Refused:
        return {}


def _cloud_runs(box: Box) -> bool:
    return any(writer_of(process.file) is not None for process in box.cloud_processes)


def _health_port(box: Box, process: Process) -> str:
    return f"cloud.health_port of {process.name}" if box.cloud.workers else "cloud.health_port"


def _cannot_bind(host: str, port: int) -> str:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""
