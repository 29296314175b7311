"""Limits as operators write them. One that cannot be kept is refused: dropped without a word, the vendor would be overrun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.vendors.rest_options import YEAR_S, Strict

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
DAY_S = 86_400
SHORTEST_S = 0.01
MOST = 2**31 - 1
"""The store counts in whole numbers, each slice of a window too: of more, or in a shorter one, it could not."""


class Limit(Strict):
    """One window of the vendor's limit."""

    name: Name = "window"
    limit: int = Field(ge=1, le=MOST, description="Most requests in the window.")
    seconds: float = Field(ge=SHORTEST_S, le=YEAR_S, description="Length of the window.")
    kind: Literal["sliding", "fixed", "daily"] = "sliding"
    burst: int | None = Field(None, ge=1, description="Most requests at once; default a quarter of the limit.")
    zone: str = Field("UTC", description="For `daily`: the time zone in which the vendor's day begins.")
    source: str = Field("operator", description="Where the number comes from.")

    @model_validator(mode="after")
    def _means_what_it_says(self) -> Limit:
        if self.kind == "daily" and self.seconds != DAY_S:
            raise ValueError(
                f"seconds: a daily limit is one of {DAY_S}; for {self.seconds:g} write kind: sliding or fixed, or nothing"
            )
        if self.kind == "daily" and self.burst is not None:
            raise ValueError("burst: a daily limit has none; write a shorter window beside it")
        if self.kind != "daily" and self.zone != "UTC":
            raise ValueError("zone: only a daily limit has one; write kind: daily, or leave it out")
        if self.burst is not None and self.burst > self.limit:
            raise ValueError(f"{self.name} has a burst above the limit itself")
        return self

    @property
    def window(self) -> QuotaWindow:
        return QuotaWindow(
            self.name,
            self.limit,
            self.seconds,
            kind=self.kind,
            burst=self.burst,
            source=self.source,
            zone=self.zone,
        )


def told_apart(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Windows are kept by name, so each has its own. Unnamed ones are `window`, `window_2` and so on, by their place: where
    they are put in another order, each counts on with what was granted under the name before. Raises ValueError."""
    named: list[Limit] = []
    unnamed = 0
    for limit in limits:
        if "name" not in limit.model_fields_set:
            unnamed += 1
            name = "window" if unnamed == 1 else f"window_{unnamed}"
            limit = limit.model_copy(update={"name": name})
        named.append(limit)
    if (twice := _twice([limit.name for limit in named])) is not None:
        raise ValueError(f"the name {twice} stands twice, and only one of them would be kept; give each its own")
    return tuple(named)


Limits = Annotated[tuple[Limit, ...], AfterValidator(told_apart)]


class EndpointLimits(Strict):
    """Limits of one endpoint, besides those of the account."""

    endpoint: str = Field(description="Its template, as the audit shows it: `/organizations/{id}/orders/`.")
    limits: Limits = Field(min_length=1)


def each_once(limits: tuple[EndpointLimits, ...]) -> tuple[EndpointLimits, ...]:
    """Raises ValueError where an endpoint stands twice."""
    if (twice := _twice([one.endpoint for one in limits])) is not None:
        raise ValueError(f"{twice} stands twice, and only one of them would be kept; write all its limits in one entry")
    return limits


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, number in Counter(names).items() if number > 1), None)
