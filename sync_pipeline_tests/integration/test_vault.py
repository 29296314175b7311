"""Vault's key-value engine over real HTTP, through hvac, against a server that answers as its documentation says.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version
https://developer.hashicorp.com/vault/api-docs#http-status-codes
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers import open_secrets, read
from sync_pipeline.trust.secrets import Secret, SecretNotFound, SecretProvider, SecretUnreachable
from sync_pipeline_tests.secret_tools import chain_of, fields_of

pytest.importorskip("hvac")

VALUE = "sesame-open-7731"
TOKEN = "hvs.vault-own-token-5512"


@dataclass
class Vault:
    """`kept`: mount/path to versions, the newest last; None is a deleted one. `always`: a status to answer whatever is asked."""

    kept: dict[str, list[dict[str, Any] | None]] = field(default_factory=dict)
    token: str = TOKEN
    always: int | None = None
    location: str = ""
    body: Any = None
    seen: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    port: int = 0

    def answer(self, path: str, token: str | None) -> tuple[int, Any]:
        if self.always is not None:
            return self.always, self.body if self.body is not None else {"errors": [f"about {VALUE}"]}
        if token != self.token:
            return 403, {"errors": ["permission denied"]}
        mount, _, rest = path.removeprefix("/v1/").partition("/data/")
        versions = self.kept.get(f"{mount}/{rest}")
        if not versions:
            return 404, {"errors": []}
        gone = versions[-1] is None
        metadata = {
            "created_time": "2026-03-22T02:24:06.945319214Z",
            "custom_metadata": None,
            "deletion_time": "2026-03-23T02:24:06.945319214Z" if gone else "",
            "destroyed": False,
            "version": len(versions),
        }
        return 404 if gone else 200, {"data": {"data": versions[-1], "metadata": metadata}}


@contextmanager
def serving(vault: Vault) -> Iterator[Vault]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("X-Vault-Token")
            vault.seen.append((self.path, token, self.headers.get("X-Vault-Namespace")))
            status, body = vault.answer(self.path, token)
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            if vault.location:
                self.send_header("Location", vault.location)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vault.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield vault
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Vault()) as started:
        yield started


def opened(vault: Vault, path: str, clock: list[float] | None = None, **env: str) -> SecretProvider:
    at = clock or [0.0]
    settings = {"SYNC_SECRETS": f"vault:http://127.0.0.1:{vault.port}/{path}", "VAULT_TOKEN": TOKEN, **env}
    return open_secrets(settings, now=lambda: at[0])


async def test_one_secret_whose_fields_are_the_names(vault: Vault) -> None:
    vault.kept["secret/sync"] = [{"VENDOR_TOKEN": "old"}, {"VENDOR_TOKEN": f"{VALUE}\n", "OTHER": "x"}]
    assert await read(opened(vault, "secret/sync"), "VENDOR_TOKEN") == Secret(VALUE)
    assert vault.seen == [("/v1/secret/data/sync", TOKEN, None)]


def test_a_folder_with_a_secret_a_name(vault: Vault) -> None:
    vault.kept["team/kv/sync/VENDOR_TOKEN"] = [{"value": VALUE}]
    secrets = opened(vault, "sync/?mount=team/kv&token_env=MY_VAULT&namespace=eu", MY_VAULT=TOKEN, VAULT_TOKEN="no")
    assert secrets.get("VENDOR_TOKEN") == Secret(VALUE)
    assert vault.seen == [("/v1/team/kv/data/sync/VENDOR_TOKEN", TOKEN, "eu")]


def test_rotation_of_the_secret_and_of_the_token_without_restart(
    vault: Vault, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("agent") / "token"
    file.write_text(TOKEN)
    clock = [0.0]
    vault.kept["secret/sync"] = [{"A": "first-value"}]
    secrets = opened(vault, "secret/sync", clock, VAULT_TOKEN="", VAULT_TOKEN_FILE=str(file))
    assert secrets.get("A") == Secret("first-value")
    vault.kept["secret/sync"].append({"A": "second-value"})
    vault.token = "hvs.renewed"
    file.write_text("hvs.renewed")
    clock[0] = 59.0
    assert secrets.get("A") == Secret("first-value")
    clock[0] = 60.0
    assert secrets.get("A") == Secret("second-value")
    assert [token for _, token, _ in vault.seen] == [TOKEN, "hvs.renewed"]


@pytest.mark.parametrize("versions", [[], [{"A": VALUE}, None], [{"B": VALUE}], [{"A": ""}]])
def test_not_there_or_deleted_leads_to_the_next_source(vault: Vault, versions: list[dict[str, Any] | None]) -> None:
    vault.kept["secret/sync"] = versions
    with pytest.raises(SecretNotFound, match=r"^vault:http://127.* asked for the secret A,") as error:
        opened(vault, "secret/sync").get("A")
    assert VALUE not in fields_of(error.value)
    chain = opened(vault, "secret/sync,env", A="from-env")
    assert chain.get("A") == Secret("from-env")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ConfigurationError),
        (403, ConfigurationError),
        (401, ConfigurationError),
        (405, SecretUnreachable),
        (412, SecretUnreachable),
        (429, SecretUnreachable),
        (500, SecretUnreachable),
        (501, SecretUnreachable),
        (502, SecretUnreachable),
        (503, SecretUnreachable),
        (504, SecretUnreachable),
    ],
)
def test_a_refusal_ends_the_search_and_says_nothing_of_the_answer(
    vault: Vault, status: int, kind: type[ConfigurationError]
) -> None:
    vault.always = status
    with pytest.raises(ConfigurationError, match=r"^vault:http://127.* asked for the secret A,") as error:
        opened(vault, "secret/sync,env", A="older").get("A")
    assert type(error.value) is kind
    assert chain_of(error.value) == [error.value]
    assert VALUE not in fields_of(error.value)
    assert TOKEN not in fields_of(error.value)


@pytest.mark.parametrize(
    "body",
    [
        VALUE.encode(),
        b"",
        [VALUE],
        {"data": {"A": VALUE}},
        {"data": {"data": VALUE}},
        {"data": None},
        {"data": {"data": {"A": [VALUE]}}},
    ],
)
def test_an_answer_of_another_shape(vault: Vault, body: object) -> None:
    vault.always, vault.body = 200, body
    with pytest.raises(ConfigurationError, match="asked for the secret A,") as error:
        opened(vault, "secret/sync").get("A")
    assert not isinstance(error.value, SecretNotFound)
    assert chain_of(error.value) == [error.value]
    assert VALUE not in fields_of(error.value)


def test_the_token_follows_no_redirect(vault: Vault) -> None:
    with serving(Vault()) as stranger:
        vault.always, vault.location = 307, f"http://127.0.0.1:{stranger.port}/v1/secret/data/sync"
        with pytest.raises(ConfigurationError, match="asked for the secret A,"):
            opened(vault, "secret/sync").get("A")
        assert len(vault.seen) == 1
        assert stranger.seen == []


def test_an_outage_is_stood_in_for_and_then_told(vault: Vault) -> None:
    clock = [0.0]
    vault.kept["secret/sync"] = [{"A": VALUE}]
    secrets = opened(vault, "secret/sync", clock)
    assert secrets.get("A") == Secret(VALUE)
    vault.always = 503
    clock[0] = 599.0
    assert secrets.get("A") == Secret(VALUE)
    clock[0] = 660.0
    with pytest.raises(SecretUnreachable):
        secrets.get("A")
    vault.always = None
    assert secrets.get("A") == Secret(VALUE)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        with pytest.raises(SecretUnreachable, match=r"secret A, cannot be reached \(ConnectionError\)") as error:
            opened(Vault(port=taken.getsockname()[1]), "secret/sync").get("A")
    assert chain_of(error.value) == [error.value]


def test_without_its_own_token_it_is_not_asked(vault: Vault) -> None:
    with pytest.raises(ConfigurationError, match="needs its own token: put it into VAULT_TOKEN") as error:
        opened(vault, "secret/sync,env", VAULT_TOKEN="", A="older").get("A")
    assert not isinstance(error.value, SecretNotFound)
    assert vault.seen == []
