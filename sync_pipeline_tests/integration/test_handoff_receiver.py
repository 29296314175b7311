"""What the receiver's answer means for a registration that is handed on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway.http import Http
from sync_pipeline.handoff.sinks import HttpSink
from sync_pipeline.kernel.errors import ConfigurationError, PermanentError, ReceiverAway, TransientError
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer


async def handed_on(
    receiver: Vendor, status: int, *, base_url: str | None = None, secret_env: str | None = None, **headers: str
) -> None:
    receiver.script = [answer(status, b"", location="/elsewhere", **headers)]
    place = receiver.connection(base_url=base_url or receiver.url)
    async with Http(place, now=lambda: datetime.now(UTC)) as http:
        await HttpSink(http, path="/x", secret_env=secret_env, secrets=EnvironmentSecrets({})).hand_on("k", b"{}")


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_what_speaks_of_this_registration_refuses_it(vendor: Vendor, status: int) -> None:
    with pytest.raises(PermanentError, match=f"HTTP {status}, it refuses this registration"):
        await handed_on(vendor, status)


@pytest.mark.parametrize("status", [301, 302, 304, 308, 401, 403, 429])
async def test_what_speaks_of_the_receiver_lets_all_wait(vendor: Vendor, status: int) -> None:
    with pytest.raises(ReceiverAway, match=f"HTTP {status}; all waiting registrations are tried again"):
        await handed_on(vendor, status)
    assert len(vendor.seen) == 1


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503])
async def test_what_may_be_due_to_this_registration_lets_it_wait_alone(vendor: Vendor, status: int) -> None:
    with pytest.raises(TransientError, match=f"HTTP {status}; this registration is tried again") as error:
        await handed_on(vendor, status)
    assert not isinstance(error.value, ReceiverAway)
    assert len(vendor.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_receiver_that_asks_to_be_left_alone_is(vendor: Vendor, status: int) -> None:
    with pytest.raises(ReceiverAway) as error:
        await handed_on(vendor, status, retry_after="90")
    assert error.value.retry_after == timedelta(seconds=90)


async def test_a_receiver_that_cannot_be_reached_is_away(vendor: Vendor) -> None:
    with pytest.raises(ReceiverAway, match="cannot be reached"):
        await handed_on(vendor, 200, base_url="http://127.0.0.1:1")


async def test_a_missing_token_is_said_to_be_the_receivers(vendor: Vendor) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^handoff: the receiver's token.*variable NOT_THERE is not set"
    ) as error:
        await handed_on(vendor, 200, secret_env="NOT_THERE")
    assert "vendor's" not in str(error.value)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_what_is_taken_is_taken(vendor: Vendor, status: int) -> None:
    await handed_on(vendor, status)
