"""The settings of `[[cloud.notify]]`: which notifications go by which route, when, and how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, structs

from headwater_cloud import notify_hours
from headwater_cloud.notify_hours import Hours, Zones
from headwater_cloud.outputs import Notification
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.settings import Duration, Secret, Section, duration, secret

RANKS = {"info": 0, "warning": 1, "critical": 2}
FILE_ROUTE = "file"
"""The route of `[cloud] notifications`."""

Severity = Literal["info", "warning", "critical"]


class NotifySettings(Section, frozen=True, forbid_unknown_fields=True):
    """One route to people, see docs/notify.md: a file, a webhook, or any address that Apprise knows. Any number of these tables."""

    name: Annotated[
        str, Meta(description="Name of this route, in the log, in metrics and in `headwater notify`.")
    ]
    to: Annotated[
        Literal["file", "webhook", "apprise", "alertmanager"],
        Meta(
            description='"file": JSON lines; "webhook": an HTTP POST of JSON; "apprise": mail, Slack, PagerDuty, Telegram and many more; '
            '"alertmanager": which alerts fire, for Prometheus\' Alertmanager.'
        ),
    ]
    url: Annotated[
        str,
        Meta(
            description='webhook, alertmanager: http:// or https://. apprise: an address that it knows. "env:VARIABLE" or "file:PATH" if it holds a secret.'
        ),
    ] = ""
    urls: Annotated[
        tuple[str, ...],
        Meta(description="apprise: several addresses, each as url. alertmanager: each gets all."),
    ] = ()
    secret: Annotated[
        Secret | None,
        Meta(description='webhook: "env:VARIABLE" or "file:PATH" of a secret that signs each (HMAC-SHA256).'),
    ] = None
    file: Annotated[str, Meta(description="file: its name, relative to the data folder.")] = ""
    severity: Annotated[Severity, Meta(description="The least severity that goes this way.")] = "warning"
    sites: Annotated[tuple[str, ...], Meta(description="Sites that go this way, * and ? match any text.")] = (
        "*",
    )
    rules: Annotated[tuple[str, ...], Meta(description="Rules that go this way.")] = ("*",)
    states: Annotated[
        tuple[Literal["firing", "growing", "escalated", "resolved"], ...],
        Meta(description="What of an alert goes this way."),
    ] = ("firing", "growing", "escalated", "resolved")
    over: Annotated[bool, Meta(description="Also what was over already when it was found.")] = True
    hours: Annotated[
        tuple[str, ...],
        Meta(
            description='When this route is used at all, such as "mon-fri 08:00-18:00"; what comes at other times does not go this way. Empty: always.'
        ),
    ] = ()
    quiet: Annotated[
        tuple[str, ...],
        Meta(
            description='Quiet hours, such as "22:00-06:00": what need not wake anybody waits for their end, and comes in one message.'
        ),
    ] = ()
    quiet_below: Annotated[
        Severity,
        Meta(description="Below this severity quiet hours hold; what is over waits whatever its severity."),
    ] = "critical"
    zone: Annotated[
        str, Meta(description="IANA time zone of hours and quiet hours; empty: that of the site, see zones.")
    ] = ""
    digest: Annotated[
        Duration, Meta(description="Collect for so long, and send one message of all; 0s: each at once.")
    ] = "0s"
    most: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages in `per` at most: what is beyond comes in one message. 0: any number, as of a file.",
        ),
    ] = 10
    per: Annotated[Duration, Meta(description="See most.")] = "10m"
    timeout: Annotated[
        Duration, Meta(description="webhook, alertmanager: how long an answer is waited for.")
    ] = "10s"
    retry: Annotated[
        Duration, Meta(description="The first wait after a failure; each is twice as long ...")
    ] = "2s"
    retry_most: Annotated[
        Duration, Meta(description="... up to this. It is tried until it is delivered.")
    ] = "5m"


class Rules(NamedTuple):
    """A route's settings, checked and read. Times in microseconds."""

    settings: NotifySettings
    urls: tuple[str, ...]
    secret: bytes
    hours: Hours
    quiet: Hours
    zone: tzinfo | None
    digest_us: int
    per_us: int
    timeout_s: float
    retry_s: float
    retry_most_s: float

    @property
    def name(self) -> str:
        return self.settings.name

    def zone_of(self, one: Notification, zones: Zones) -> tzinfo:
        """The zone whose clock counts."""
        return self.zone or zones.of(site_of(one))

    def takes(self, rule: str, severity: str, site: str) -> bool:
        """Tell whether alerts of a rule, severity and site go this way at all."""
        s = self.settings
        return RANKS.get(severity, 1) >= RANKS[s.severity] and _fits(rule, s.rules) and _fits(site, s.sites)

    def wants(self, one: Notification, shown_us: int, zones: Zones) -> bool:
        """Tell whether a notification goes this way, by what the clock shows when it is taken up."""
        s = self.settings
        return (
            self.takes(one.rule, one.severity, site_of(one))
            and one.state in s.states
            and (s.over or not one.over)
            and (not self.hours or notify_hours.inside(self.hours, shown_us, self.zone_of(one, zones)))
        )


def site_of(one: Notification) -> str:
    """The site of a notification; of an alert that names none, what its subject begins with."""
    return one.site or one.subject.partition("/")[0]


def read_routes(routes: Sequence[NotifySettings], notifications: str, *, secrets: bool = True) -> list[Rules]:
    """Check all routes, and read them, with the file of `[cloud] notifications` unless that is empty.

    Without `secrets` nothing is looked up in the environment or in files, and Apprise is not asked: who only looks at what waits need
    not know them.

    Raises:
        SettingsError: with what to change.
    """
    own = (
        [NotifySettings(FILE_ROUTE, "file", file=notifications, severity="info", most=0)]
        if notifications
        else []
    )
    names: set[str] = set()
    found = []
    for one in (*own, *(each for route in routes for each in _each(route))):
        where = f"cloud.notify {one.name!r}"
        if one.name in names and one.name == FILE_ROUTE:
            raise SettingsError(f"{where} is the file of [cloud] notifications", hint="choose another name")
        if not valid_name(one.name) or one.name in names:
            raise SettingsError(
                f"{where} is no name, or that of two routes", hint="1 to 128 characters without / + #"
            )
        names.add(one.name)
        found.append(_read(one, where, secrets))
    return found


def _each(route: NotifySettings) -> list[NotifySettings]:
    """Of a route to several Alertmanagers one for each: each is posted to by itself, whatever the others do."""
    urls = (*([route.url] if route.url else []), *route.urls)
    if route.to != "alertmanager" or len(urls) < 2:
        return [route]
    names = [route.name, *(f"{route.name}-{number}" for number in range(2, len(urls) + 1))]
    return [
        structs.replace(route, name=name, url=url, urls=()) for name, url in zip(names, urls, strict=True)
    ]


def check_zones(zones: Mapping[str, str]) -> Zones:
    """Read the zones of sites.

    Raises:
        SettingsError: one is none.
    """
    return Zones(zones)


def _read(one: NotifySettings, where: str, secrets: bool) -> Rules:
    urls = (*([one.url] if one.url else []), *one.urls)
    if secrets:
        urls = tuple(_resolved(url, where) for url in urls)
    known = [url for url in urls if secrets or not url.startswith(_ELSEWHERE)]
    times = [duration(text) for text in (one.digest, one.per, one.timeout, one.retry, one.retry_most)]
    digest_us, per_us, timeout_us, retry_us, most_us = times
    for wrong, what, hint in (
        (one.to != "file" and not urls, "it has no url", _URL[one.to]),
        (one.to == "file" and bool(urls), "url of a file", 'write file = "some.jsonl"'),
        (one.to == "file" and not one.file, "it names no file", 'write file = "some.jsonl"'),
        (one.to != "file" and bool(one.file), "file of a route that is none", 'write to = "file"'),
        (one.to != "webhook" and one.secret is not None, "secret without a webhook", 'write to = "webhook", or take secret out'),
        (one.to == "webhook" and len(urls) > 1, "several urls of a webhook", "write a [[cloud.notify]] for each"),
        (one.to == "webhook" and not all(map(_is_http, known)), "url is none of a webhook: http:// or https://, and a host", _URL["webhook"]),
        (one.to == "alertmanager" and not all(map(_is_http, known)), "url is none of an Alertmanager: http:// or https://, and a host", _URL["alertmanager"]),
        (one.to == "alertmanager" and _is_timed(one), "hours, quiet, digest, states and over are not for alertmanager", "leave them out: Alertmanager groups, waits and mutes by its own settings"),
        (not 0 < retry_us <= most_us or not timeout_us, "retry or timeout is zero, or retry above retry_most", 'write retry = "2s", retry_most = "5m" and timeout = "10s"'),
        (bool(one.most) and not per_us, "per is zero", 'write per = "10m"'),
        (not one.states, "states is empty: nothing would go this way", "leave it out for all"),
    ):  # fmt: skip
        if wrong:
            raise SettingsError(f"{where}: {what}", hint=hint)
    if one.to == "apprise" and secrets:
        from headwater_cloud.send_apprise import check

        check(where, urls)
    return Rules(
        one, urls, _resolved(one.secret, where).encode() if one.secret and secrets else b"", notify_hours.parse(f"{where}: hours", one.hours),
        notify_hours.parse(f"{where}: quiet", one.quiet), notify_hours.zone_of(where, one.zone) if one.zone else None,
        digest_us, per_us, timeout_us / 1e6, retry_us / 1e6, most_us / 1e6,
    )  # fmt: skip


_ELSEWHERE = ("env:", "file:")
_URL = {
    "file": "",
    "webhook": 'write url = "https://example.org/hook"',
    "alertmanager": 'write url = "http://127.0.0.1:9093"',
    "apprise": 'write url = "mailto://user:password@example.org?to=you@example.org", better url = "env:NAME" with that in NAME',
}


def _is_timed(one: NotifySettings) -> bool:
    usual = NotifySettings(one.name, one.to)
    return any(
        getattr(one, name) != getattr(usual, name) for name in ("hours", "quiet", "digest", "states", "over")
    )


def _resolved(url: str, where: str) -> str:
    if url.startswith(_ELSEWHERE):
        try:
            return secret(url)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error.message}", hint=error.hint) from None
    return url


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is none, say
        return False


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
