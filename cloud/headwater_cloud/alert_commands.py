"""The commands `alerts` and `incidents`, of `headwater-cloud` and of `headwater` on one box: see, acknowledge, mute, end."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated, Any

import msgspec
import typer

from headwater_cloud import acting, alert_history, alert_page, rebuild
from headwater_cloud import query as queries
from headwater_cloud.alert_history import OPEN, STATES
from headwater_cloud.commands import AsJson, Format, SettingsFile, bus_of, history_of
from headwater_cloud.order_commands import clock_of, me
from headwater_cloud.query import iso, time_us
from headwater_shared.actions import NAME
from headwater_shared.alert_records import Doing
from headwater_shared.errors import Refused
from headwater_shared.settings import Common, duration, load

alerts = typer.Typer(help="Alerts: see them, acknowledge, mute and end them.")
incidents = typer.Typer(help="Incidents: alerts of one site that began near each other.")

Id = Annotated[str, typer.Argument(help="Its id or the beginning of it; of an incident: all of its alerts.")]
Who = Annotated[str, typer.Option(help="Who does it; you, without it.")]
Why = Annotated[str, typer.Option(help="Why, for those who read it later.")]
Whole = Annotated[bool, typer.Option("--incident", help="And all other alerts of its incident.")]
SiteGlob = Annotated[str, typer.Option(help="Of these sites; * and ? match any text, quote them.")]
Last = Annotated[int | None, typer.Option(help="The latest so many.")]


@alerts.callback(invoke_without_command=True)
def list_alerts(
    ctx: typer.Context,
    settings: SettingsFile = None,
    state: Annotated[list[str] | None, typer.Option(help=f"Of this state: {', '.join(STATES)}; several times for several.")] = None,
    site: SiteGlob = "*",
    rule: Annotated[str, typer.Option(help="Of these rules; * and ? match any text, quote them.")] = "*",
    firing: Annotated[bool, typer.Option("--firing", help="Only those that are not over.")] = False,
    last: Last = None,
    form: Format = "table",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show alerts, the newest first: those that fire, are acknowledged or over."""
    if ctx.invoked_subcommand:
        return
    unknown = [one for one in state or () if one not in STATES]
    if unknown:
        raise Refused(f"there is no state {unknown[0]!r}", hint=f"states: {', '.join(STATES)}")
    states = tuple(state or (OPEN if firing else (*OPEN, "resolved")))
    found = alert_history.alerts(history_of(settings).connection, states, site, rule, last)
    for line in queries.shown(queries.ALERT, queries.alerts(found), "json" if as_json else form):
        print(line)


@alerts.command()
def show(alert: Id, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show one alert with its evidence, what was done with it, and what people were told."""
    connection = history_of(settings).connection
    one = alert_history.alert(connection, alert)
    evidence = alert_history.evidence(connection, one.evidence)
    events = alert_history.events(connection, one.id)
    told = alert_history.told(connection, one.id, one.incident)
    if as_json:
        _json({"alert": one, "evidence": evidence, "events": events, "told": told})
    else:
        print("\n".join(alert_page.of_alert(one, evidence, events, told)))


@alerts.command()
def ack(
    alert: Id, why: Why = "", who: Who = "", whole: Whole = False, settings: SettingsFile = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """Acknowledge: you take care, nobody else need be woken; it is not escalated."""
    _do("ack", alert, why, who, settings, as_json=as_json, whole=whole)


@alerts.command()
def resolve(
    alert: Id, why: Why = "", who: Who = "", whole: Whole = False, settings: SettingsFile = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """End it by hand, where what it was found by does not say that it is over."""
    _do("resolve", alert, why, who, settings, as_json=as_json, whole=whole)


@alerts.command()
def mute(
    alert: Id,
    for_: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d; without, until it is unmuted.")] = "",
    until: Annotated[str, typer.Option(help="Or until when (ISO 8601, UTC if it names no zone).")] = "",
    why: Why = "", who: Who = "", whole: Whole = False, settings: SettingsFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Tell nobody of it for a while; what still fires then is told."""
    now_us = clock_of(load(settings, "common", Common)).now().wall_us
    if for_ and until:
        raise Refused("--for and --until say the same in two ways", hint="leave one of them out")
    until_us = now_us + duration(for_) if for_ else time_us(until) if until else 0
    if until_us and until_us <= now_us:
        raise Refused(f"{until} is over already", hint="mute it for some time: --for 2h")
    _do("mute", alert, why, who, settings, as_json=as_json, whole=whole, until_us=until_us)


@alerts.command()
def unmute(
    alert: Id, why: Why = "", who: Who = "", whole: Whole = False, settings: SettingsFile = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """Tell of it again, if it still fires."""
    _do("unmute", alert, why, who, settings, as_json=as_json, whole=whole)


@alerts.command()
def comment(
    alert: Id,
    text: Annotated[str, typer.Argument(help="What others should know.")],
    who: Who = "", settings: SettingsFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Note something, also on an alert that is over."""
    _do("comment", alert, text, who, settings, as_json=as_json)


@alerts.command("rebuild")
def rebuild_(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Throw the tables of alerts away and make them again from the topics hw-alerts and hw-alert-events. The cloud side must not run."""
    found = rebuild.rebuild(settings)
    if as_json:
        _json(found)
    else:
        print(f"{found['alerts']:,} alerts and {found['events']:,} events, from the bus")


@incidents.callback(invoke_without_command=True)
def list_incidents(
    ctx: typer.Context,
    settings: SettingsFile = None,
    site: SiteGlob = "*",
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    last: Last = None,
    form: Format = "table",
    as_json: AsJson = False,
) -> None:
    """Show incidents, the newest first."""
    if ctx.invoked_subcommand:
        return
    found = alert_history.incidents(
        history_of(settings).connection, open_only=open_only, site=site, last=last
    )
    for line in queries.shown(queries.INCIDENT, queries.incidents(found), "json" if as_json else form):
        print(line)


@incidents.command("show")
def show_incident(
    incident: Annotated[str, typer.Argument(help="Its id or the beginning of it.")],
    last: Annotated[int, typer.Option(help="So many of its alerts.")] = 50,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one incident with its alerts, and what people were told."""
    connection = history_of(settings).connection
    one = alert_history.incident(connection, incident)
    members = alert_history.alerts(connection, incident=one.id, last=last)
    told = alert_history.told(connection, "", one.id)
    if as_json:
        _json({"incident": one, "alerts": members, "told": told})
    else:
        print("\n".join(alert_page.of_incident(one, members, told)))


_DONE = {
    "ack": "acknowledged", "resolve": "ended", "mute": "muted", "unmute": "unmuted", "comment": "noted",
}  # fmt: skip


def _do(
    what: Doing, name: str, why: str, who: str, settings: SettingsFile, *, as_json: bool, whole: bool = False, until_us: int = 0
) -> None:  # fmt: skip
    common = load(settings, "common", Common)
    alert, is_incident = acting.meant(history_of(settings).connection, name)
    whole = whole or (is_incident and what != "comment")
    now_us = clock_of(common).now().wall_us
    action = acting.action_of(alert, what, who[:NAME] or me(), why, now_us, until_us, whole=whole)
    with closing(bus_of(settings)) as bus:
        acting.send(bus, action)
    if as_json:
        _json(action)
        return
    of = "all of the incident of " if whole else ""
    until = f" until {iso(until_us)}" if until_us else ""
    print(
        f"{_DONE[what]}{until}: {of}{alert.rule} of {alert.subject}; `alerts show {alert.id[:12]}` has it in a moment"
    )


def _json(what: Any) -> None:
    print(json.dumps(msgspec.to_builtins(what)))
