"""What the receiver's answer means for a registration that is handed on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync_pipeline.gateway.http import Http
from sync_pipeline.handoff.sinks import HttpSink
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer


async def handed_on(receiver: Vendor, status: int) -> None:
    receiver.script = [answer(status, b"", location="/elsewhere")]
    async with Http(receiver.connection(), now=lambda: datetime.now(UTC)) as http:
        await HttpSink(http, path="/x", secret_env=None, secrets=EnvironmentSecrets({})).hand_on("k", b"{}")


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_what_speaks_of_this_registration_refuses_it(vendor: Vendor, status: int) -> None:
    with pytest.raises(PermanentError, match=f"HTTP {status}, it refuses this registration"):
        await handed_on(vendor, status)


@pytest.mark.parametrize("status", [301, 302, 304, 308, 401, 403, 408, 409, 425, 429, 500, 503])
async def test_what_speaks_of_the_receiver_lets_all_wait(vendor: Vendor, status: int) -> None:
    with pytest.raises(TransientError, match=f"HTTP {status}; all waiting registrations are tried again"):
        await handed_on(vendor, status)
    assert len(vendor.seen) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_what_is_taken_is_taken(vendor: Vendor, status: int) -> None:
    await handed_on(vendor, status)
