"""What the `rest` vendor is told in YAML about a feed and its quota headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SinceFormat = Literal["iso_seconds", "iso_millis", "iso_micros", "epoch_s", "epoch_ms"]
PagingKind = Literal["cursor", "next_link", "continuation", "page_number", "offset", "keyset", "none"]
YEAR_S = 366 * 86_400
"""Longest time that settings take: beyond it lies a mistyped number, and at last no instant."""
Said = Annotated[str, Field(min_length=1)]
"""A name or a path that is not left empty."""

PAGING: Mapping[PagingKind, frozenset[str]] = {
    "cursor": frozenset({"param", "token", "token_may_be_absent", "has_more", "short_page_ends"}),
    "next_link": frozenset({"token", "token_may_be_absent", "has_more", "short_page_ends"}),
    "continuation": frozenset({"param", "token", "token_may_be_absent", "has_more"}),
    "page_number": frozenset({"param", "first_page", "key", "has_more", "short_page_ends"}),
    "offset": frozenset({"param", "drift_guard", "key", "has_more", "short_page_ends"}),
    "keyset": frozenset({"param", "key", "has_more", "short_page_ends"}),
    "none": frozenset({"has_more"}),
}
"""The keys that mean something to each kind of paging."""

NEEDED: Mapping[PagingKind, str] = {
    "page_number": "param",
    "offset": "param",
    "keyset": "param",
    "continuation": "has_more",
}
"""What is not guessed: under a default that the vendor does not know, it would give its first page again and again."""


BELOW = re.compile(r"/(?!/)[^\s#]*").fullmatch


def _below(path: str) -> str:
    """What is asked stays below the connection's base_url, where its credential belongs."""
    if not BELOW(path) or "://" in path:
        raise ValueError("must be a path below base_url that begins with one slash, like /v1/registrations")
    return path


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Paging(Strict):
    """How the end of a page leads to the next one."""

    kind: PagingKind = Field(
        description="cursor: a token in the body; next_link: a URL in the body or the Link header; continuation: a token "
        "and a has-more flag; page_number, offset: counted by us; keyset: the last record's key."
    )
    param: Said = Field(
        "cursor",
        description="Query parameter that carries the token, page number, offset or key. The last three need it written.",
    )
    token: Said = Field("next_cursor", description="Dotted path of the token or of the next URL in the body.")
    token_may_be_absent: bool = Field(
        False,
        description="The vendor leaves the token, or the next URL, out on its last page. Else a full first page that names no "
        "way on is taken for a wrong `token`: what follows it would be lost.",
    )
    has_more: Said | None = Field(
        None,
        description="Dotted path of a flag that says whether more follows. Without it a list that is counted, or walked by key, "
        "ends with an empty page: one more call.",
    )
    short_page_ends: bool = Field(
        False,
        description="A page shorter than page_size is the last one, unless has_more says otherwise. Only for a vendor that "
        "always gives pages of the size it is asked for: with a smaller one of its own all that follows would be lost.",
    )
    first_page: int = Field(1, ge=0, description="Number of the first page (page_number).")
    drift_guard: int = Field(
        1,
        ge=0,
        description="offset: records asked again at each page's start; if the last one seen is not among the page, the "
        "list has moved and the window is walked again.",
    )
    key: Said = Field("id", description="keyset, offset, page_number: dotted path of a record's key.")

    @model_validator(mode="after")
    def _does_what_it_says(self) -> Paging:
        for key, field in type(self).model_fields.items():
            if key != "kind" and key not in PAGING[self.kind] and getattr(self, key) != field.default:
                kinds = [kind for kind, keys in PAGING.items() if key in keys]
                raise ValueError(
                    f"{key}: it does nothing for kind {self.kind}, it is a key of {', '.join(kinds)}; take it out"
                )
        needed = NEEDED.get(self.kind)
        if needed is not None and (needed not in self.model_fields_set or getattr(self, needed) is None):
            raise ValueError(f"{needed}: kind {self.kind} needs it; write what the vendor's documentation calls it")
        return self


class Modified(Strict):
    """How changes are asked for."""

    field: Said = Field(description="Dotted path of a record's modification instant.", examples=["modified_at"])
    param: Said | None = Field(
        None, description="Query parameter for `changed since`; none: the whole list is asked for."
    )
    format: SinceFormat = "iso_seconds"


class RestFeedOptions(Strict):
    """What a feed of the `rest` vendor needs to be told."""

    path: Annotated[str, AfterValidator(_below)] = Field(
        description="Path below base_url, with a query where it needs one.", examples=["/v1/registrations"]
    )
    weight: int = Field(1, ge=1, description="Calls of the limit that one page costs, where the vendor counts so.")
    records: str = Field("data", description="Dotted path of the array of records; empty: the body is the array.")
    params: Mapping[str, str] = Field(default_factory=dict, description="Query parameters of every request.")
    paging: Paging = Paging(kind="cursor")
    modified: Modified | None = None
    page_size_param: Said | None = Field(None, description="Query parameter for the page size.")
    page_size: int = Field(
        100, ge=1, le=10_000, description="Records in a full page: what is asked for, else the vendor's own size."
    )
    overlap_s: float = Field(60, ge=0, le=YEAR_S, description="Seconds asked for again before the watermark.")
    conditional: bool = Field(
        False,
        description="Send If-None-Match / If-Modified-Since where the last answer to the same URL was the whole list.",
    )

    @model_validator(mode="after")
    def _guard_fits(self) -> RestFeedOptions:
        if self.paging.kind == "offset" and self.page_size <= self.paging.drift_guard:
            raise ValueError("page_size: must be above drift_guard, or no page would hold anything new")
        return self


class RateHeaders(Strict):
    """Names of the headers in which the vendor tells its quota."""

    limit: str = "x-ratelimit-limit"
    remaining: str = "x-ratelimit-remaining"
    reset: str = "x-ratelimit-reset"
    reset_is: Literal["seconds", "epoch_s", "epoch_ms"] = "seconds"
    window: str | None = Field(
        None, description="Which of the connection's limits the headers speak of (default first)."
    )
