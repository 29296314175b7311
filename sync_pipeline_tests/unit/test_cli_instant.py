"""From when a feed is listed again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from sync_pipeline.cli import operate
from sync_pipeline.cli.app import app
from sync_pipeline.kernel.errors import ConfigurationError


def resynced(monkeypatch: pytest.MonkeyPatch, start: str) -> datetime | None:
    """The instant that `resync --from` hands on."""
    handed: list[Any] = []

    async def resync(feed: str, *, since: datetime | None, skip: bool, max_seconds: float, poll: bool) -> None:
        assert not skip
        handed.append(since)

    monkeypatch.setattr(operate, "resync", resync)
    result = CliRunner().invoke(app, ["resync", "pretix/orders", "--from", start])
    if result.exception is not None:
        assert handed == []
        raise result.exception
    [since] = handed
    assert since is None or isinstance(since, datetime)
    return since


def test_an_instant_of_the_past_is_taken_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resynced(monkeypatch, "2026-01-31T02:00:00+02:00") == datetime(2026, 1, 31, tzinfo=UTC)
    assert resynced(monkeypatch, "2026-01-31T00:00:00") == datetime(2026, 1, 31, tzinfo=UTC)
    assert resynced(monkeypatch, "beginning") is None


def test_what_is_no_instant_or_not_over_yet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    later = datetime.now(UTC) + timedelta(minutes=5)
    with pytest.raises(ConfigurationError, match="is not over yet: the feed would see no change before then"):
        resynced(monkeypatch, later.isoformat())
    with pytest.raises(ConfigurationError, match="is not an instant"):
        resynced(monkeypatch, "yesterday")


@pytest.mark.parametrize("start", ["0001-01-01T00:00:00+14:00", "0001-01-01", "1989-12-31T23:59:59Z"])
def test_an_instant_before_any_vendor_is_refused(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    with pytest.raises(ConfigurationError, match="is before 1990, and no vendor has changes from then"):
        resynced(monkeypatch, start)
    assert resynced(monkeypatch, "1990-01-01") == datetime(1990, 1, 1, tzinfo=UTC)


def test_the_end_of_all_time_is_not_over_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="is not over yet"):
        resynced(monkeypatch, "9999-12-31T23:59:59-14:00")
