"""Connections that take longer to make than a grant is good for: name, TCP and TLS of a host that is far away."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.gateway.http import Http, NotSent
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import AuthSpec, QuotaWindow
from sync_pipeline.kernel.grants import Grant
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.gateway_setting import GET, Vendor, answer, gateway, send
from sync_pipeline_tests.integration.quota_setting import most_in_any
from sync_pipeline_tests.integration.token_worker import ENVIRONMENT, KEY
from sync_pipeline_tests.things import rows

SETUP_S = 0.4


class FarAway(Vendor):
    """Speaks TLS; each connection takes SETUP_S until its handshake is answered. A request on it arrives at once."""

    made: int = 0
    tls: ssl.SSLContext

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Vendor]:
        inner = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        relay = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self._inner = inner.sockets[0].getsockname()[1]
        self.port = relay.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            for server in (relay, inner):
                server.close()
                await server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        await asyncio.sleep(SETUP_S)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._inner)
        await asyncio.gather(self._pipe(reader, inner_writer), self._pipe(inner_reader, writer))

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()
        writer.close()


@pytest.fixture
async def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FarAway]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "far away")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "far.pem"
    kind, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(certificate.public_bytes(kind) + key.private_bytes(kind, form, plain))
    monkeypatch.setattr(certifi, "where", lambda: str(file))
    vendor = FarAway()
    vendor.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    vendor.tls.load_cert_chain(file)
    async with vendor.serving():
        yield vendor


def url(far: FarAway) -> str:
    return f"https://127.0.0.1:{far.port}"


@pytest.mark.parametrize("in_flight", [4, 10])
async def test_a_strict_second_stays_strict_while_connections_are_made(
    far: FarAway, database: Database, in_flight: int
) -> None:
    """Calls of the grants before arrived together with those of the grants after."""
    second = QuotaWindow("second", 25, 1)
    opened = gateway(far, database, SystemClock(), windows=(second,), max_in_flight=in_flight, base_url=url(far))
    async with opened, asyncio.timeout(60):
        await asyncio.gather(*(send(opened) for _ in range(60)))
    assert len(far.at) == 60
    assert most_in_any(far.at, 1) <= 25
    assert far.made <= in_flight, "a connection that was made for a grant too old is kept"


def closed_when_idle(opened: Gateway) -> None:
    """Half a second after its last use each connection is gone."""
    session = opened._http._session
    assert session is not None
    assert session.connector is not None
    session.connector._keepalive_timeout = 0.5


async def test_a_call_goes_though_its_connection_is_never_kept_until_the_next_grant(
    far: FarAway, database: Database
) -> None:
    """The vendor closes what is idle. Each grant was spent on a connection that was gone when the next one came."""
    slow = QuotaWindow("second", 1, 1)
    async with gateway(far, database, SystemClock(), windows=(slow,), base_url=url(far)) as opened:
        closed_when_idle(opened)
        async with asyncio.timeout(30):
            for _ in range(3):
                assert await send(opened) == 200
    assert len(far.at) == 3


async def test_a_grant_that_was_waited_for_is_not_spent_on_making_a_connection(
    far: FarAway, database: Database
) -> None:
    """The vendor had closed it meanwhile, and the call waited for another grant, twice as long as it may."""
    windows = (QuotaWindow("second", 1, 1), QuotaWindow("hour", 1000, 3600, burst=100))
    async with gateway(far, database, SystemClock(), windows=windows, base_url=url(far)) as opened:
        closed_when_idle(opened)
        async with asyncio.timeout(30):
            for _ in range(4):
                assert await send(opened) == 200
    used = await rows(database, "select used from sync.quota_now where window_name = 'hour'")
    assert used == [(5,)], "one for each, and the first one's, when there was no connection yet"


async def test_a_connection_is_made_without_a_request(far: FarAway) -> None:
    connection = replace(far.connection(), base_url=url(far))
    async with Http(connection, now=lambda: datetime.now(UTC)) as http:
        await http.connect(GET)
        assert (far.made, far.seen) == (1, [])
        with pytest.raises(NotSent):
            await http.send(GET, None, may_go=lambda: False)
        await http.send(GET, None)
        assert (far.made, len(far.seen)) == (1, 1)


async def test_a_token_is_exchanged_where_each_exchange_needs_a_new_connection(
    far: FarAway, database: Database
) -> None:
    far.script = [answer(200, b'{"access_token": "t0ken", "expires_in": 3600}')]
    grant = Grant("client_credentials", "/token", client_id_env="SHOP_ID", client_secret_env="SHOP_SECRET")
    connection = replace(far.connection(), base_url=url(far), auth=AuthSpec("bearer", grant=grant))
    secrets = EnvironmentSecrets(ENVIRONMENT | {"SYNC_TOKEN_KEY": KEY})
    clock, rng = SystemClock(), random.Random(1)
    async with Gateway(connection, database=database, secrets=secrets, clock=clock, rng=rng) as opened:
        assert await send(opened) == 200
    assert [path for path, _ in far.seen] == ["/token", "/things/1"]
