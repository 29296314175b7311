"""Connections as operators write them: the attributes of one YAML document, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.vendors.limits import EndpointLimits, Limit, Limits, Name, each_once
from sync_pipeline.vendors.oauth import Preset, with_preset
from sync_pipeline.vendors.rest_options import YEAR_S, RateHeaders, RestFeedOptions, Strict

OWNER = re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}|team:.+").fullmatch
SEGMENT = re.compile(r"(?!\.{1,2}\Z)[^\s/?#%\\]+").fullmatch


def _segment(value: str) -> str:
    """An id or a slug: it becomes a part of a path."""
    if not SEGMENT(value):
        raise ValueError("must be an id or a slug as the vendor shows it, not empty, without spaces and slashes")
    return value


Segment = Annotated[str, AfterValidator(_segment)]


def _url(value: str) -> str:
    """Where a host is asked: below it paths are put."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no credentials, query or fragment")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("must have a port from 0 to 65535, or none") from None
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


def _owner(value: str) -> str:
    """As Dagster takes it, which else refuses to load anything."""
    if not OWNER(value):
        raise ValueError("must be an e-mail address or a team, like team:events")
    return value


Owner = Annotated[str, AfterValidator(_owner)]


OF_GRANTS: Mapping[str, str] = {
    "subject": "jwt_bearer",
    "audience": "jwt_bearer",
    "rotates": "refresh_token",
    "grace_s": "refresh_token",
}
"""Keys that only one kind of grant has."""


class GrantOptions(Strict):
    """How tokens are got by exchange (OAuth). Secrets are named, never written here."""

    preset: Preset | None = Field(None, description="A vendor's documented settings; what is written here goes before.")
    kind: Literal["client_credentials", "refresh_token", "jwt_exchange", "jwt_bearer"] = Field(
        "refresh_token", description="Mandatory without a preset."
    )
    path: str = Field("", pattern="^/", description="Path of the token endpoint. Mandatory without a preset.")
    base_url: Url | None = Field(None, description="Host of the token endpoint; default the connection's.")
    client_id_env: str | None = None
    client_secret_env: str | None = None
    client_auth: Literal["body", "basic", "none"] = "body"
    encoding: Literal["form", "json"] = "form"
    token_field: str = "access_token"  # noqa: S105
    scope: str | None = None
    extra: Mapping[str, str] = Field(default_factory=dict)
    subject: str | None = None
    audience: str | None = None
    lifetime_s: float | None = Field(None, gt=0, le=10 * YEAR_S, description="Where the answer states none.")
    rotates: bool = Field(True, description="A refresh spends the refresh token.")
    grace_s: float = Field(0, ge=0, le=YEAR_S, description="How long the vendor still takes a spent refresh token.")
    revokes_old: bool = Field(False, description="A refresh ends the old access token at once.")
    mint_limit: Limit | None = Field(None, description="Most exchanges in a window: limit, seconds and source.")

    @model_validator(mode="after")
    def _mint_is_plain(self) -> GrantOptions:
        limit = self.mint_limit
        if limit is not None and (limit.kind != "sliding" or limit.burst is not None):
            raise ValueError("mint_limit: it is a sliding one without a burst; take out kind and burst")
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        return with_preset(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _complete(self) -> GrantOptions:
        if not {"kind", "path"} <= self.model_fields_set:
            raise ValueError("a grant needs its kind and path, or a preset")
        if self.client_auth == "none" and self.kind not in ("refresh_token", "client_credentials"):
            raise ValueError(f"client_auth: a {self.kind} exchange needs a client secret, which `none` has not")
        if self.client_auth == "none" and self.client_secret_env is not None:
            raise ValueError("client_secret_env: with `client_auth: none` no secret is sent; remove one of the two")
        for key, kind in OF_GRANTS.items():
            if self.kind != kind and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: it does nothing for kind {self.kind}, it is a key of {kind}; take it out")
        return self

    @property
    def missing(self) -> list[str]:
        """Keys without which every exchange would fail."""
        needed = ["client_id_env"]
        needed += [] if self.client_auth == "none" else ["client_secret_env"]
        needed += ["subject", "audience"] if self.kind == "jwt_bearer" else []
        return [key for key in needed if not getattr(self, key)]


class Auth(Strict):
    """How the token becomes part of a request (the `rest` vendor; the others know theirs)."""

    kind: Literal["bearer", "header", "basic", "query", "none"] = "bearer"
    name: str = Field("Authorization", description="Header or query parameter.")
    prefix: str = ""
    grant: GrantOptions | None = Field(
        None, description="For tokens that end; without it the token stands in token_env."
    )

    @model_validator(mode="after")
    def _does_what_it_says(self) -> Auth:
        for key, kinds in (("name", ("header", "query")), ("prefix", ("header",))):
            if self.kind not in kinds and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: kind {self.kind} has none, only {' and '.join(kinds)}; take it out")
        if self.kind == "query" and "name" not in self.model_fields_set:
            raise ValueError("name: kind query needs the name of the parameter")
        if self.kind == "none" and self.grant is not None:
            raise ValueError("grant: kind none sends no token; take one of them out")
        if self.grant is not None and self.grant.missing:
            raise ValueError(f"grant: kind {self.grant.kind} also needs {', '.join(self.grant.missing)}")
        return self


class FeedConfig(Strict):
    """One feed of a connection. Times in seconds."""

    name: Name
    enabled: bool = True
    contract: str | None = Field(
        None, description="Contract by import path, `package.module:Class`; default the vendor's."
    )
    contract_options: Mapping[str, Any] = Field(default_factory=dict)
    handoff: bool = Field(True, description="Hand applied changes on, where the connection has a handoff_url.")
    target_lag_s: float = Field(60, gt=0, le=YEAR_S, description="Freshness wanted: vendor change to canonical row.")
    value: float = Field(
        1,
        gt=0,
        le=1000,
        description="What an unseen change is worth beside other feeds': price at risk, a tier's rank.",
    )
    floor_s: float | None = Field(
        None,
        ge=0.01,
        le=YEAR_S,
        description="Shortest time between two polls; default the connection's, or the ceiling where lower.",
    )
    ceiling_s: float | None = Field(
        None, gt=0, le=YEAR_S, description="Longest time between two polls; default the connection's."
    )
    rest: RestFeedOptions | None = Field(None, description="Only for the `rest` vendor: path, paging, change filter.")


Form = Literal["salesforce", "hubspot", "zendesk", "alma", "eventbrite", "mews", "channex"]
OF_VENDORS: Mapping[str, tuple[str, ...]] = {
    "organization": ("eventbrite",),
    "organizer": ("pretix",),
    "events": ("eventbrite", "pretix"),
    "auth": ("rest",),
    "rate_headers": ("rest",),
    "limits_told": ("rest",),
}
"""Keys that not every vendor has."""


class ConnectionConfig(Strict):
    """One account at a vendor. Secrets are named, never written here."""

    name: Name = Field(description="Name of the connection: first part of its asset keys.")
    vendor: Literal["eventbrite", "pretix", "rest"]
    base_url: Url = Field(description="Where the API is, without a trailing slash.")
    token_env: str | None = Field(None, description="Name of the environment variable that holds the token.")
    organization: Segment | None = Field(None, description="Eventbrite organization id.")
    organizer: Segment | None = Field(None, description="pretix organizer slug.")
    events: tuple[Segment, ...] = Field((), description="Only these events, one after the other; default all.")
    limits: Limits = Field((), description="The vendor's limit for this account; default the documented one.")
    account: Name | None = Field(
        None,
        description="Whose limit it is: connections that name the same account share it; default the token's (Eventbrite), the "
        "organizer's (pretix), else the connection's own.",
    )
    credential_limits: Limits = Field(
        (), description="Further limits of this token alone: connections that use the same secret share them."
    )
    endpoint_limits: Annotated[tuple[EndpointLimits, ...], AfterValidator(each_once)] = Field(
        (), description="Further limits of single endpoints."
    )
    vendor_limits: Limits = Field((), description="Further limits that all connections to this vendor's host share.")
    auth: Auth = Auth()
    rate_headers: RateHeaders | None = Field(None, description="Headers that tell the quota (the `rest` vendor).")
    limits_told: Form | None = Field(
        None,
        description="The vendor whose own form the answers tell the quota in (the `rest` vendor); default the common ones.",
    )
    page_size: int | None = Field(None, ge=1, le=1000)
    overlap_s: float | None = Field(None, ge=0, le=YEAR_S, description="Seconds asked for again before the watermark.")
    max_in_flight: int = Field(4, ge=1, le=10)
    timeout_s: float = Field(30, gt=0, le=YEAR_S)
    floor_s: float = Field(
        5, ge=0.01, le=YEAR_S, description="Shortest time between two polls of a feed that does not say its own."
    )
    ceiling_s: float = Field(900, gt=0, le=YEAR_S, description="The same, longest time.")
    feeds: tuple[FeedConfig, ...] = Field(min_length=1)
    handoff_url: Url | None = Field(
        None, description="Where applied registrations are handed on: POST of JSON with an Idempotency-Key."
    )
    handoff_token_env: str | None = Field(None, description="Environment variable with the receiver's bearer token.")
    group: Name = Field("registrations", description="Domain: the group of its assets in the UI.")
    owners: tuple[Owner, ...] = Field(("team:events",), description="Owners shown in the UI: e-mail or team:name.")
    session_s: float = Field(240, gt=0, le=YEAR_S, description="Longest session that the sensor asks for.")
    reconcile_cron: str = Field("15 3 * * *", description="When the daily reconcile runs, UTC.")

    @model_validator(mode="after")
    def _vendor_needs(self) -> ConnectionConfig:
        if self.vendor == "rest" and not self.limits:
            raise ValueError("limits: a budget is mandatory; write the vendor's limit, or the one you allow yourself")
        if self.vendor == "rest" and any(feed.rest is None or feed.contract is None for feed in self.feeds):
            raise ValueError("feeds: each feed of the rest vendor needs `rest` and `contract`")
        for name in ("overlap_s", "page_size"):
            if self.vendor == "rest" and getattr(self, name) is not None:
                raise ValueError(f"{name}: each feed of the rest vendor has its own; write it in the feed's `rest`")
        if self.token_env is not None and self.auth.grant is not None:
            raise ValueError("token_env: auth.grant gets the token, so that it does nothing; take one of them out")
        names = [limit.name for limit in self.limits]
        if self.rate_headers is not None and self.rate_headers.window not in (None, *names):
            raise ValueError(
                f"rate_headers.window: no limit is called {self.rate_headers.window}; the limits are: {', '.join(names)}"
            )
        if self.vendor == "eventbrite" and not (self.organization or self.events):
            raise ValueError("organization: Eventbrite needs one (or a list of events)")
        if self.vendor == "pretix" and not self.organizer:
            raise ValueError("organizer: pretix needs one")
        for key, vendors in OF_VENDORS.items():
            if self.vendor not in vendors and key in self.model_fields_set and getattr(self, key) not in (None, ()):
                raise ValueError(
                    f"{key}: it does nothing for {self.vendor}, it is a key of {' and '.join(vendors)}; take it out"
                )
        for feed in self.feeds:
            if self.vendor != "rest" and feed.rest is not None:
                raise ValueError(
                    f"feeds: `rest` of {feed.name} does nothing for {self.vendor}, it is a key of rest; take it out"
                )
        names = [feed.name for feed in self.feeds]
        if len(set(names)) != len(names):
            raise ValueError("feeds: a name stands twice")
        return self

    @model_validator(mode="after")
    def _floors_are_below(self) -> ConnectionConfig:
        if "floor_s" in self.model_fields_set and self.floor_s > self.ceiling_s:
            raise ValueError(f"floor_s: {self.floor_s:g} is above ceiling_s, which is {self.ceiling_s:g}")
        for feed in self.feeds:
            ceiling_s = feed.ceiling_s or self.ceiling_s
            if feed.floor_s is not None and feed.floor_s > ceiling_s:
                raise ValueError(
                    f"feeds: floor_s of {feed.name}: {feed.floor_s:g} is above its ceiling_s, which is {ceiling_s:g}"
                )
        return self

    def bounds(self, feed: FeedConfig) -> tuple[float, float]:
        """Shortest and longest time between two polls of a feed, in seconds."""
        ceiling_s = feed.ceiling_s or self.ceiling_s
        return min(feed.floor_s or self.floor_s, ceiling_s), ceiling_s

    @classmethod
    def parse(cls, attributes: Mapping[str, Any], *, where: str) -> ConnectionConfig:
        """Raises ConfigurationError with one sentence for the first thing wrong."""
        try:
            return cls.model_validate(attributes)
        except ValidationError as error:
            raise ConfigurationError(_sentence(error, attributes, where)) from None


def _sentence(error: ValidationError, attributes: Mapping[str, Any], where: str) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    connection = (attributes.get("name") if isinstance(attributes, Mapping) else None) or "(without a name)"
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(sorted(_model_at(first["loc"][:-1]).model_fields))
        return f"{where}: connection {connection} has the unknown key `{path}`; known keys there are: {allowed}"
    message = first["msg"].removeprefix("Value error, ")
    remedy = "correct the environment" if where.startswith("environment") else "correct the YAML and reload"
    return f"{where}: connection {connection}: {path + ': ' if path else ''}{message}; {remedy}"


def _model_at(location: tuple[int | str, ...]) -> type[Strict]:
    """The model whose keys stand at a place in the document."""
    model: type[Strict] = ConnectionConfig
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[Strict] | None:
    """The model inside `tuple[Model, ...]`, `Model | None` and their like."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
