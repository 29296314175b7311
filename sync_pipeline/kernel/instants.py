"""Instants that another machine's clock has named."""

from __future__ import annotations

from datetime import datetime, timedelta

ABSURD = timedelta(days=31)
"""No vendor means a month: a larger value is an instant or a mistake, and is treated as not said."""


def ahead(moment: datetime, *clocks: datetime | None) -> timedelta | None:
    """How far `moment` is ahead of now, as `clocks` show it (None: one that is not known). None if it is absurd by all.

    The clocks are ours and the vendor's, as its answer tells it: the moment is by that one, and ours may be fast by seconds.
    Still the answer may come from another machine than the moment does, and then nobody can tell which of them is wrong. So
    the longest of the sensible readings counts: too late costs what our clock is slow by, too early is a call that the
    vendor has forbidden.
    """
    readings = [moment - clock for clock in clocks if clock is not None]
    return max((left for left in readings if left <= ABSURD), default=None)
