"""Judging answers: the rules that most HTTP APIs share, for vendor modules to refine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import orjson

from sync_pipeline.kernel.errors import AuthenticationError, PermanentError, SyncError, TransientError
from sync_pipeline.kernel.feed import RawRecord, Reply, Request
from sync_pipeline.kernel.wire import NotThisShape, reach, split_page


def error_fields(reply: Reply) -> Mapping[str, Any]:
    """The JSON object of an error answer; empty when it is something else (an HTML page, plain text)."""
    try:
        found = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def by_status(vendor: str, request: Request, reply: Reply) -> SyncError | None:
    """The error a status stands for, by the common reading of HTTP; None for a good answer."""
    status = reply.status
    what = f"{vendor} {request.endpoint}: HTTP {status}"
    if status < 300 or status == 304:
        return None
    if status == 429:
        return TransientError(f"{what}, over the vendor's limit", throttled=True, status=status)
    if status == 401:
        return AuthenticationError(
            f"{what}, the vendor does not accept the token; check that the variable named by `token_env` holds a valid "
            "one, then run the session again"
        )
    if status == 403:
        return AuthenticationError(
            f"{what}, the token may not read this; give it the scopes or the permissions that README lists"
        )
    if status in (408, 409, 423, 425) or status >= 500:
        return TransientError(f"{what}, the vendor failed; it is asked again", status=status)
    if 300 <= status < 400:
        return PermanentError(
            f"{what}, the vendor redirects elsewhere, which is not followed; correct the connection's base_url",
            status=status,
        )
    if status == 404:
        return PermanentError(
            f"{what}, there is no such thing; check the base_url, the organisation and the event names in YAML",
            status=status,
        )
    return PermanentError(f"{what}, the vendor refuses the request as it is", status=status)


def page(what: str, reply: Reply, path: tuple[str, ...]) -> tuple[dict[str, Any], list[RawRecord]]:
    """Envelope and records of a good answer. Raises TransientError when the body is something else."""
    try:
        return split_page(reply.body, path)
    except NotThisShape as problem:
        raise TransientError(f"{what}: HTTP 200, but {problem}; it is asked again", status=200) from None


def instant(value: Any) -> datetime | None:
    """An aware instant from ISO 8601 text, or None when it is not one: the contract is what judges values."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None


def dotted(value: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    return reach(value, path.split(".") if path else ())


def server_clock(reply: Reply) -> datetime | None:
    """A lower bound of the vendor's clock when it made the answer: its `Date` header (RFC 9110, 6.6.1) less the time the
    request took and the second that the header rounds away. None without the header."""
    said = _date(reply.headers.get("date", ""))
    return None if said is None else said - (reply.received_at - reply.sent_at) - timedelta(seconds=1)


@lru_cache(maxsize=64)
def _date(text: str) -> datetime | None:
    """An HTTP date. Remembered: the answers of a second have the same."""
    try:
        said = parsedate_to_datetime(text)
        return None if said.tzinfo is None else said.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def newest(
    stamps: Iterable[Any], not_after: datetime, read: Callable[[Any], datetime | None] = instant
) -> datetime | None:
    """The newest believable modification among a page's stamps: those from the future would carry the watermark past
    changes that are still to come."""
    listed = list(stamps)
    if set(map(type, listed)) == {str} and len(set(map(len, listed))) == 1 and _all_end_in_z(listed):
        # Stamps of one form sort as their instants do, so that one need be read.
        latest = read(max(listed))
        if latest is not None and latest <= not_after:
            return latest
    return max((at for at in map(read, listed) if at is not None and at <= not_after), default=None)


def _all_end_in_z(listed: Sequence[str]) -> bool:
    return ("\n".join(listed) + "\n").count("Z\n") == len(listed)


def stamps(records: Sequence[RawRecord], field: str) -> list[Any]:
    """The field of each record that is an object and has it."""
    try:
        found: list[Any] = [record.value[field] for record in records]
    except (KeyError, TypeError):
        found = [record.value.get(field) if type(record.value) is dict else None for record in records]
    return [stamp for stamp in found if stamp is not None]
