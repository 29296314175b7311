"""What an answer of the vendor's comes to, as an error of the tree or none, and what becomes of its call. Pure."""

from __future__ import annotations

from datetime import timedelta

from sync_pipeline.gateway.breaker import Outcome
from sync_pipeline.gateway.feedback import retry_after
from sync_pipeline.gateway.feedback_vendors import refusal
from sync_pipeline.kernel.errors import AuthenticationError, SyncError, TransientError
from sync_pipeline.kernel.feed import Connection, Reply, Request


def judged(connection: Connection, form: str, request: Request, reply: Reply) -> SyncError | None:
    """By the vendor's module, and by what a refusal for the limit looks like in `form`, that vendor's own."""
    error = connection.api.classify(request, reply)
    # Who refuses a credential does not say when to come back: that is the limit, whatever the vendor calls it.
    limited = reply.status == 403 and asked_for(reply) is not None
    if error is None and not limited:
        return None
    what = f"{connection.name} {request.endpoint}: HTTP {reply.status}"
    if isinstance(error, AuthenticationError) and refusal(form, reply.status, reply.body, reply.received_at):
        error = TransientError(f"{what}, over the vendor's limit", throttled=True, status=reply.status)
    if limited and not isinstance(error, TransientError):
        error = TransientError(f"{what}, the vendor asks to be left alone for a while", throttled=True, status=403)
    if isinstance(error, TransientError):
        error.retry_after = retry_after(reply.headers, reply.received_at)
        error.throttled = error.throttled or limited or reply.status == 429
    return error if isinstance(error, SyncError) else None


def asked_for(reply: Reply) -> timedelta | None:
    """How long the vendor asks to be left alone, whatever it refused and why (RFC 9110, 10.2.3: also with a redirect)."""
    return retry_after(reply.headers, reply.received_at) if reply.status >= 300 else None


def may_retry(request: Request, error: BaseException) -> bool:
    if not isinstance(error, TransientError):
        return False
    return request.idempotent or error.unsent or error.throttled


def outcome(error: SyncError | None) -> Outcome:
    """What the breakers are told of it."""
    if error is None:
        return "good"
    if isinstance(error, AuthenticationError):
        return "auth"
    return "transient" if isinstance(error, TransientError) else "permanent"
