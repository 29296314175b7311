"""The IETF's quota headers: `RateLimit` and `RateLimit-Policy`, and the forms of the older drafts that servers still send.

Source: draft-ietf-httpapi-ratelimit-headers, -11 for the fields (sections 3 and 4), -07 for `limit=.., remaining=..`,
-03 to -06 for the three headers. The grammar is RFC 9651 (structured fields); a malformed field is ignored as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from sync_pipeline.gateway.feedback import count, triple
from sync_pipeline.kernel.feed import QuotaFeedback
from sync_pipeline.kernel.instants import ABSURD

Bare: TypeAlias = str | int | float | bool

_BARE = re.compile(
    r'(?P<string>"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*")'
    r"|(?P<bytes>:[A-Za-z0-9+/=]*:)"
    r"|\?(?P<boolean>[01])"
    r"|(?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3})"
    r"|(?P<integer>-?[0-9]{1,15})"
    r"|(?P<token>[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*)"
)
_KEY = re.compile(r"; *([a-z*][a-z0-9_.*-]*)")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class Item:
    """One member of a list: its value and its parameters, in order."""

    value: Bare
    parameters: tuple[tuple[str, Bare], ...]

    def whole(self, key: str) -> int | None:
        """The parameter, if it is an integer and not negative."""
        found = dict(self.parameters).get(key)
        return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None

    def text(self, key: str) -> str | None:
        found = dict(self.parameters).get(key)
        return found if isinstance(found, str) else None


def items(field: str) -> tuple[Item, ...]:
    """A structured field list of items (RFC 9651, 4.2.1); empty when it is malformed or holds an inner list."""
    field = field.strip(" ")
    found: list[Item] = []
    at = 0
    while at < len(field):
        bare = _BARE.match(field, at)
        if bare is None:
            return ()
        at = bare.end()
        parameters: dict[str, Bare] = {}
        while key := _KEY.match(field, at):
            at, value = key.end(), None
            if field.startswith("=", at):
                value = _BARE.match(field, at + 1)
                if value is None:
                    return ()
                at = value.end()
            parameters[key[1]] = True if value is None else _value(value)
        found.append(Item(_value(bare), tuple(parameters.items())))
        comma = _COMMA.match(field, at)
        if at < len(field) and (comma is None or comma.end() == len(field)):
            return ()
        at = comma.end() if comma else at
    return tuple(found)


def _value(match: re.Match[str]) -> Bare:
    kind, text = match.lastgroup, match[match.lastgroup or 0]
    if kind == "string":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if kind == "integer":
        return int(text)
    if kind == "decimal":
        return float(text)
    return text == "1" if kind == "boolean" else text


def ietf(headers: Mapping[str, str], now: datetime) -> tuple[QuotaFeedback, ...]:
    """One word for each policy: `"name";r=50;t=30` with `"name";q=100;w=60`, or what an older draft says instead.

    `t` is when the quota that is left must have lasted until: taken as the reset. Policies that count bytes or
    concurrent requests are left out: they do not bound a number of calls. An answer from a cache (`Age` over 0) says
    nothing of today.
    """
    if (count(headers.get("age")) or 0) > 0:
        return ()
    policies = items(headers.get("ratelimit-policy", ""))
    field = headers.get("ratelimit", "")
    limits = [item for item in items(field) if item.whole("r") is not None]
    if limits or any(item.whole("q") is not None for item in policies):
        return _named(policies, limits, now)
    found = _dictionary(field, now) or triple(headers, "ratelimit-", now)
    if found is None:
        return ()
    if found.limit is not None:
        lists = (*policies, *items(headers.get("ratelimit-limit", "")))
        lengths = {item.whole("w") or item.whole("window") for item in lists if item.value == found.limit} - {None}
        if len(lengths) == 1:
            found = replace(found, seconds=_seconds(lengths.pop()))
    return (found,)


def _named(policies: tuple[Item, ...], limits: list[Item], now: datetime) -> tuple[QuotaFeedback, ...]:
    words: list[QuotaFeedback] = []
    for item in limits:
        known = [policy for policy in policies if policy.value == item.value]
        exact = [policy for policy in known if policy.text("pk") == item.text("pk")]
        policy = next(iter(exact or known), None)
        if policy is not None and not _counts_calls(policy):
            continue
        words.append(
            QuotaFeedback(
                str(item.value),
                None if policy is None else policy.whole("q"),
                item.whole("r"),
                _after(item.whole("t"), now),
                seconds=None if policy is None else _seconds(policy.whole("w")),
                source="ratelimit",
            )
        )
    said = {item.value for item in limits}
    words.extend(
        QuotaFeedback(
            str(policy.value), policy.whole("q"), seconds=_seconds(policy.whole("w")), source="ratelimit-policy"
        )
        for policy in policies
        if policy.value not in said and policy.whole("q") is not None and _counts_calls(policy)
    )
    return tuple(words)


def _counts_calls(policy: Item) -> bool:
    return policy.text("qu") in (None, "requests", "request")


def _after(seconds: int | None, now: datetime) -> datetime | None:
    if seconds is None or seconds > ABSURD.total_seconds():
        return None
    return now + timedelta(seconds=seconds)


def _seconds(window: int | None) -> float | None:
    return float(window) if window else None


def _dictionary(field: str, now: datetime) -> QuotaFeedback | None:
    """Draft -07: `limit=100, remaining=50, reset=5`."""
    if not re.fullmatch(r"\s*[a-z]+=[0-9]{1,15}(\s*,\s*[a-z]+=[0-9]{1,15})*\s*", field):
        return None
    said = {f"ratelimit-{key}": value for key, value in re.findall(r"([a-z]+)=([0-9]+)", field)}
    return triple(said, "ratelimit-", now)
