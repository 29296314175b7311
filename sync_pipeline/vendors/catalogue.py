"""From settings to a connection: which vendor module, which limits, which feeds; environment settings on top.

A vendor's module is imported by the first connection of that vendor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import AuthSpec, Connection, Feed, QuotaNode, QuotaWindow, VendorApi
from sync_pipeline.kernel.grants import Grant, MintLimit
from sync_pipeline.kernel.names import shown
from sync_pipeline.vendors.config import ConnectionConfig, FeedConfig, GrantOptions
from sync_pipeline.vendors.limits import Limit

__all__ = ["CONTRACTS", "ConnectionConfig", "FeedConfig", "build_connection", "contract_of", "with_environment"]

CONTRACTS = {
    ("eventbrite", "orders"): "sync_pipeline.contracts.eventbrite:OrderContract",
    ("eventbrite", "attendees"): "sync_pipeline.contracts.eventbrite:AttendeeContract",
    ("pretix", "orders"): "sync_pipeline.contracts.pretix:OrderContract",
    ("pretix", "positions"): "sync_pipeline.contracts.pretix:PositionContract",
}
"""The contract of each feed that a vendor module knows."""


def contract_of(config: ConnectionConfig, feed: FeedConfig) -> str:
    return feed.contract or CONTRACTS[config.vendor, feed.name]


@dataclass(frozen=True, slots=True)
class Parts:
    api: VendorApi
    auth: AuthSpec
    feeds: Mapping[str, Feed]
    endpoints: Sequence[str]
    """Templates of all that its feeds may ask, those that are not enabled too."""
    account: str | None = None
    """Whose limit the vendor counts, where its documents say so; None: nobody else's."""


def build_connection(config: ConnectionConfig) -> Connection:
    """Raises ConfigurationError for feeds that the vendor does not have and a token that is not named."""
    windows = _windows(config.limits)
    parts = VENDORS[config.vendor](config, windows)
    if parts.auth.kind != "none" and not parts.auth.secret_env and parts.auth.grant is None:
        raise ConfigurationError(
            f"connection {config.name}: token_env is missing; name the environment variable that holds the token"
        )
    if config.handoff_token_env and not config.handoff_url:
        # Only here: either may come from the environment.
        raise ConfigurationError(
            f"connection {config.name}: handoff_token_env does nothing without handoff_url; write where changes go, or take "
            "it out"
        )
    _refuse_unasked(config, parts)
    return Connection(
        name=config.name,
        api=parts.api,
        base_url=config.base_url,
        auth=parts.auth,
        windows=parts.api.windows,
        feeds=parts.feeds,
        nodes=_nodes(config, parts.auth),
        account=f"account {config.account}" if config.account else parts.account,
        max_in_flight=config.max_in_flight,
        timeout_s=config.timeout_s,
        limits_told=config.limits_told,
        endpoints=frozenset(parts.endpoints),
    )


def _refuse_unasked(config: ConnectionConfig, parts: Parts) -> None:
    """A limit of an endpoint that nobody asks would hold nothing."""
    asked = {*parts.endpoints, *([parts.auth.grant.path] if parts.auth.grant else [])}
    for each in config.endpoint_limits:
        if each.endpoint not in asked:
            raise ConfigurationError(
                f"connection {config.name}: endpoint_limits: nothing asks {each.endpoint}, so that its limit would hold nobody "
                f"back; asked are: {', '.join(sorted(asked))}"
            )


def _windows(limits: Sequence[Limit]) -> tuple[QuotaWindow, ...]:
    return tuple(limit.window for limit in limits)


def _nodes(config: ConnectionConfig, auth: AuthSpec) -> tuple[QuotaNode, ...]:
    """The quota tree besides the account: the vendor's host above it, its credential and endpoint classes below.

    A credential is known by the name of its secret, as far as that may be shown: scopes are stored, and `status` and the
    errors repeat them. A token that is exchanged is the connection's own.
    """
    nodes = [
        QuotaNode(f"{config.name} {each.endpoint}", _windows(each.limits), endpoint=each.endpoint)
        for each in config.endpoint_limits
    ]
    if config.credential_limits:
        if auth.kind == "none":
            raise ConfigurationError(
                f"connection {config.name}: credential_limits are those of a credential, and its auth is `none`; write them "
                "as limits"
            )
        secret = config.name if auth.grant else shown(auth.secret_env or "")
        nodes.append(QuotaNode(f"credential {secret}", _windows(config.credential_limits)))
    if config.vendor_limits:
        host = urlsplit(config.base_url).hostname
        nodes.append(QuotaNode(f"vendor {host}", _windows(config.vendor_limits), shared=True))
    return tuple(nodes)


def _grant(options: GrantOptions | None) -> Grant | None:
    if options is None:
        return None
    mint = options.mint_limit
    return Grant(
        options.kind,
        options.path,
        base_url=options.base_url,
        client_id_env=options.client_id_env,
        client_secret_env=options.client_secret_env,
        client_auth=options.client_auth,
        encoding=options.encoding,
        token_field=options.token_field,
        scope=options.scope,
        extra=tuple(options.extra.items()),
        subject=options.subject,
        audience=options.audience,
        lifetime_s=options.lifetime_s,
        rotates=options.rotates,
        grace_s=options.grace_s,
        revokes_old=options.revokes_old,
        mint=None if mint is None else MintLimit(mint.limit, mint.seconds, mint.source),
    )


def _named(config: ConnectionConfig, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(feed.name for feed in config.feeds if feed.enabled)
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"connection {config.name}: {config.vendor} has no feed {name}; it has: {', '.join(known)}"
            )
    return names


def _eventbrite(config: ConnectionConfig, windows: tuple[QuotaWindow, ...]) -> Parts:
    from sync_pipeline.vendors import eventbrite

    feeds: dict[str, Feed] = {
        name: eventbrite.EventbriteFeed(
            name,
            config.organization or "",
            config.events,
            page_size=config.page_size or eventbrite.PAGE_SIZE,
            overlap=_overlap(config, eventbrite.OVERLAP),
        )
        for name in _named(config, ("orders", "attendees"))
    }
    api = eventbrite.EventbriteApi(windows=windows or eventbrite.WINDOWS)
    endpoints = [eventbrite.endpoint(feed.name, of_events=bool(config.events)) for feed in config.feeds]
    account = f"token {shown(config.token_env or '')}"
    return Parts(api, eventbrite.auth(config.token_env or ""), feeds, endpoints, account)


def _pretix(config: ConnectionConfig, windows: tuple[QuotaWindow, ...]) -> Parts:
    from sync_pipeline.vendors import pretix

    names = _named(config, ("orders", "positions"))
    if names and "orders" not in names:
        raise ConfigurationError(f"connection {config.name}: positions come out of the pages of orders; enable both")
    feed = pretix.PretixOrders(
        config.organizer or "",
        config.events,
        page_size=config.page_size or pretix.PAGE_SIZE,
        overlap=_overlap(config, pretix.OVERLAP),
        yields=names,
    )
    api = pretix.PretixApi(windows=windows or pretix.WINDOWS, organizer=feed.organizer, events=feed.events)
    account = f"organizer {urlsplit(config.base_url).hostname}/{feed.organizer}"
    return Parts(api, pretix.auth(config.token_env or ""), {"orders": feed} if names else {}, feed.endpoints, account)


def _rest(config: ConnectionConfig, windows: tuple[QuotaWindow, ...]) -> Parts:
    from sync_pipeline.vendors import rest

    feeds: dict[str, Feed] = {
        feed.name: rest.RestFeed(
            feed.name,
            feed.rest,
            base_url=config.base_url,
            secret_param=config.auth.name if config.auth.kind == "query" else None,
        )
        for feed in config.feeds
        if feed.enabled and feed.rest is not None
    }
    auth = AuthSpec(
        config.auth.kind,
        config.token_env,
        name=config.auth.name,
        prefix=config.auth.prefix,
        grant=_grant(config.auth.grant),
    )
    endpoints = [rest.endpoint(feed.rest.path) for feed in config.feeds if feed.rest is not None]
    return Parts(rest.RestApi(windows, config.rate_headers), auth, feeds, endpoints)


def _overlap(config: ConnectionConfig, default: timedelta) -> timedelta:
    return default if config.overlap_s is None else timedelta(seconds=config.overlap_s)


VENDORS: Mapping[str, Callable[[ConnectionConfig, tuple[QuotaWindow, ...]], Parts]] = {
    "eventbrite": _eventbrite,
    "pretix": _pretix,
    "rest": _rest,
}


def with_environment(config: ConnectionConfig, env: Mapping[str, str]) -> ConnectionConfig:
    """The settings with `SYNC_<CONNECTION>_…` on top: BASE_URL, TOKEN_ENV, ORGANIZATION, ORGANIZER,
    HANDOFF_URL, HANDOFF_TOKEN_ENV, EVENTS (comma
    separated) and LIMITS (`360/60,100000/86400`: requests per seconds). Raises ConfigurationError."""
    prefix = f"SYNC_{config.name.upper()}_"
    changes: dict[str, Any] = {}
    for key in ("base_url", "token_env", "organization", "organizer", "handoff_url", "handoff_token_env"):
        value = env.get(prefix + key.upper(), "").strip()
        if value:
            changes[key] = value
    if events := env.get(prefix + "EVENTS", "").strip():
        changes["events"] = tuple(name.strip() for name in events.split(",") if name.strip())
    if limits := env.get(prefix + "LIMITS", "").strip():
        changes["limits"] = _told_of(config, prefix + "LIMITS", _limits(prefix + "LIMITS", limits))
    if not changes:
        return config
    return ConnectionConfig.parse(
        {**config.model_dump(exclude_unset=True), **changes}, where=f"environment ({prefix}…)"
    )


def _limits(variable: str, text: str) -> list[dict[str, Any]]:
    found = []
    for number, part in enumerate(text.split(",")):
        limit, slash, seconds = part.strip().partition("/")
        try:
            found.append(
                {"name": f"window_{number}", "limit": int(limit), "seconds": float(seconds), "source": variable}
            )
        except ValueError:
            slash = ""
        if not slash:
            raise ConfigurationError(
                f"{variable} must look like 360/60 (requests/seconds), several separated by commas"
            )
    return found


def _told_of(config: ConnectionConfig, variable: str, limits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The environment's limits, that of which `rate_headers` speak under its name in YAML: the one of its length, else the one in
    its place where there are as many. The others keep their own names, under which they were counted so far."""
    told = config.rate_headers.window if config.rate_headers else None
    if told is None or told in [limit["name"] for limit in limits]:
        return limits
    place, named = next((place, one) for place, one in enumerate(config.limits) if one.name == told)
    fits = [number for number, one in enumerate(limits) if one["seconds"] == named.seconds]
    if not fits and len(limits) == len(config.limits):
        fits = [place]
    if not fits:
        raise ConfigurationError(
            f"{variable}: rate_headers speak of the limit {told}, which is of {named.seconds:g} s, and none here is; write one, "
            f"like {named.limit}/{named.seconds:g}"
        )
    return [{**one, "name": told} if number == fits[0] else one for number, one in enumerate(limits)]
