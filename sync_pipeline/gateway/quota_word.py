"""What a vendor says of one window, as the quota takes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from sync_pipeline.gateway.feedback import PAST
from sync_pipeline.gateway.quota import Pace
from sync_pipeline.kernel.feed import QuotaFeedback

UNSEEN = 0.01
"""A vendor's `remaining` that is lower than ours by more than this share of the limit says that others use the key."""


@dataclass(frozen=True, slots=True)
class Word:
    """So many are left of a window, until its reset in so many seconds; what others used leaves it in `leave_s`."""

    scope: str
    window: str
    remaining: int
    reset_s: int
    leave_s: int
    sent: datetime


def understood(
    feedback: QuotaFeedback, scope: str, pace: Pace, *, known: int, now: datetime, sent: datetime, refused: bool
) -> Word | None:
    """The vendor's word only ever lowers the estimate (`known`: how many are left by ours), until its reset; None where it does
    not. `sent`: when the call left that it answers, since it may speak of a day that is over.

    `refused`: it comes with a refusal, which is waited for as such. So of a window whose next turn nobody knows "none left"
    says nothing more: it may be over in seconds or last for the window's whole length.
    """
    if feedback.remaining is None:
        return None
    if feedback.remaining > 0 and feedback.remaining >= known - max(2, UNSEEN * pace.limit):
        return None
    reset_s = pace.passed_s(sent, now)
    # A reset long past is a mistake (a delay read as an epoch is in 1970): not said.
    if feedback.reset_at is not None and feedback.reset_at - now >= -PAST:
        reset_s = min(reset_s, max(0.0, (feedback.reset_at - now).total_seconds()))
    elif refused and feedback.remaining <= 0 and pace.kind != "daily":
        return None
    leave_s = reset_s if pace.resets else pace.seconds
    return Word(scope, pace.name, feedback.remaining, math.ceil(reset_s), math.ceil(leave_s), sent)
