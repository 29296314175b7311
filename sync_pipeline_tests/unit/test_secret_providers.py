"""Sources of secrets: the environment and files for real, keyring and AWS where their extra is installed."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers import open_secrets, read
from sync_pipeline.trust.providers.aws import AwsSecrets
from sync_pipeline.trust.providers.cached import CachedSecrets, ChainedSecrets, Labelled
from sync_pipeline.trust.providers.folder import FolderSecrets
from sync_pipeline.trust.providers.settings import AwsSource, KeyringSource, parse_sources
from sync_pipeline.trust.providers.system_keyring import KeyringSecrets
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret, SecretNotFound, SecretUnreachable
from sync_pipeline_tests.secret_tools import chain_of, fields_of

VALUE = "sesame-open-7731"


class TestSetting:
    def test_every_form_in_order(self) -> None:
        setting = (
            "env, file:/run/secrets ,keyring:sync-pipeline,vault:https://vault:8200/secret/sync,"
            "vault:https://vault:8200/a/b/?mount=team/kv&token_env=V_TOKEN&namespace=eu,aws:eu-central-1/sync/,aws:us-gov-west-1"
        )
        assert [source.label for source in parse_sources(setting)] == [
            "env",
            "file:/run/secrets",
            "keyring:sync-pipeline",
            "vault:https://vault:8200/secret/sync",
            "vault:https://vault:8200/team/kv/a/b/",
            "aws:eu-central-1/sync/",
            "aws:us-gov-west-1/",
        ]

    @pytest.mark.parametrize("setting", ["", "  ", "env"])
    def test_the_environment_is_the_default(self, setting: str) -> None:
        assert [source.label for source in parse_sources(setting)] == ["env"]

    @pytest.mark.parametrize(
        "wrong",
        [
            VALUE,
            f"{VALUE}:x",
            f"env:{VALUE}",
            f"file:{VALUE}",
            "keyring:",
            f"keyring:{VALUE} x",
            f"vault:{VALUE}",
            f"vault:https://user:{VALUE}@vault:8200/secret/sync",
            f"vault:http://vault:8200/secret/{VALUE}",
            f"vault:https://vault:8200/secret/sync?token={VALUE}",
            f"vault:https://vault:8200/secret/sync?token_env={VALUE}%20x",
            f"vault:https://vault:8200/secret/../{VALUE}",
            f"vault:https://vault:99999/secret/{VALUE}",
            f"vault:https://[vault/secret/{VALUE}",
            f"vault:https://vault:8200/secret/sync?mount=a&mount={VALUE}",
            "vault:https://vault:8200/secret",
            f"aws:{VALUE}!",
            f"aws:eu-central-1/../{VALUE}",
            f"aws:eu-central-1//{VALUE}",
        ],
    )
    def test_a_wrong_entry_is_named_by_number_and_not_repeated(self, wrong: str) -> None:
        with pytest.raises(ConfigurationError, match="SYNC_SECRETS: entry 2 ") as error:
            parse_sources(f"env,{wrong}")
        assert VALUE not in str(error.value)

    @pytest.mark.parametrize("text", [VALUE, "-1", "nan", "inf", "3601"])
    def test_a_wrong_age_is_refused_and_not_repeated(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="SYNC_SECRETS_CACHE_S") as error:
            open_secrets({"SYNC_SECRETS_CACHE_S": text}, now=lambda: 0.0)
        assert VALUE not in str(error.value)


class TestFolder:
    @pytest.mark.parametrize("name", ["VENDOR_TOKEN", "vendor_token"])
    def test_a_file_a_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(f"{VALUE}\n")
        assert FolderSecrets(tmp_path).get("VENDOR_TOKEN") == Secret(VALUE)

    def test_a_rotation_as_kubernetes_does_it(self, tmp_path: Path) -> None:
        """A mounted secret is a link through `..data`, which is swapped for another folder in one rename."""
        secrets = FolderSecrets(tmp_path)
        (tmp_path / "VENDOR_TOKEN").symlink_to("..data/VENDOR_TOKEN")
        for value in ("first-value", "second-value"):
            (tmp_path / value).mkdir()
            (tmp_path / value / "VENDOR_TOKEN").write_text(value)
            (tmp_path / "next").symlink_to(value)
            (tmp_path / "next").rename(tmp_path / "..data")
            assert secrets.get("VENDOR_TOKEN") == Secret(value)

    @pytest.mark.parametrize("content", [None, b"", b" \n"])
    def test_nothing_there(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "VENDOR_TOKEN").write_bytes(content)
        with pytest.raises(SecretNotFound, match=f"file:{re.escape(str(tmp_path))} .*VENDOR_TOKEN"):
            FolderSecrets(tmp_path).get("VENDOR_TOKEN")

    def test_what_is_no_text_leaves_no_byte_on_the_error(self, tmp_path: Path) -> None:
        (tmp_path / "VENDOR_TOKEN").write_bytes(b"\xff" + VALUE.encode())
        with pytest.raises(ConfigurationError, match="VENDOR_TOKEN that is not text") as error:
            FolderSecrets(tmp_path).get("VENDOR_TOKEN")
        assert not isinstance(error.value, SecretNotFound)
        assert chain_of(error.value) == [error.value]

    def test_what_may_not_be_read_ends_the_search(self, tmp_path: Path) -> None:
        (tmp_path / "VENDOR_TOKEN").mkdir()
        chain = ChainedSecrets(
            [Labelled("file", FolderSecrets(tmp_path)), Labelled("env", EnvironmentSecrets({"VENDOR_TOKEN": "old"}))]
        )
        with pytest.raises(ConfigurationError, match=r"does not let us read .*VENDOR_TOKEN"):
            chain.get("VENDOR_TOKEN")

    @pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "", ".hidden", f"{VALUE} with spaces"])
    def test_a_name_leads_nowhere_else(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "outside").write_text(VALUE)
        (tmp_path / "in").mkdir()
        with pytest.raises(ConfigurationError, match="not one") as error:
            FolderSecrets(tmp_path / "in").get(name)
        assert VALUE not in str(error.value)


class TestChain:
    def test_the_first_that_has_it(self, tmp_path: Path) -> None:
        (tmp_path / "A").write_text("file-a")
        env = {"SYNC_SECRETS": f"file:{tmp_path},env", "A": "env-a", "B": "env-b"}
        secrets = open_secrets(env, now=lambda: 0.0)
        assert (secrets.get("A"), secrets.get("B")) == (Secret("file-a"), Secret("env-b"))

    def test_none_has_it(self, tmp_path: Path) -> None:
        secrets = open_secrets({"SYNC_SECRETS": f"file:{tmp_path},env"}, now=lambda: 0.0)
        with pytest.raises(
            SecretNotFound, match=rf"secret NOWHERE is in none of file:{re.escape(str(tmp_path))}, env: "
        ):
            secrets.get("NOWHERE")

    def test_alone_it_speaks_for_itself(self) -> None:
        with pytest.raises(ConfigurationError, match="variable NOWHERE is not set"):
            open_secrets({}, now=lambda: 0.0).get("NOWHERE")


class Slow:
    """A source that answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.answer: Secret | ConfigurationError = Secret(VALUE)
        self.threads: list[int] = []

    def get(self, name: str) -> Secret:
        self.threads.append(threading.get_ident())
        if isinstance(self.answer, ConfigurationError):
            raise self.answer
        return self.answer


class TestReading:
    async def test_the_loop_is_left_only_to_wait(self) -> None:
        source, here, clock = Slow(), threading.get_ident(), [0.0]
        chain = ChainedSecrets([Labelled("slow", CachedSecrets(source, now=lambda: clock[0], ttl_s=60, keep_s=600))])
        assert await read(chain, "A") == await read(chain, "A") == Secret(VALUE)
        assert len(source.threads) == 1
        assert source.threads[0] != here
        plain = Slow()
        await read(plain, "A")
        assert plain.threads == [here]

    async def test_a_slow_source_does_not_hold_the_loop(self) -> None:
        release = threading.Event()

        class Stuck(Slow):
            def get(self, name: str) -> Secret:
                assert release.wait(10), "the loop never came to release it"
                return super().get(name)

        waiting = asyncio.create_task(read(CachedSecrets(Stuck(), now=lambda: 0.0, ttl_s=60, keep_s=600), "A"))
        await asyncio.sleep(0)
        release.set()
        assert await waiting == Secret(VALUE)


@pytest.mark.parametrize(
    ("kind", "setting", "module"),
    [
        ("keyring", "keyring:sync-pipeline", "keyring"),
        ("vault", "vault:https://127.0.0.1:1/secret/sync", "hvac"),
        ("aws", "aws:eu-central-1/sync/", "botocore"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, kind: str, setting: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # the import machinery's own way to say "not installed"
    secrets = open_secrets({"SYNC_SECRETS": setting, "VAULT_TOKEN": VALUE}, now=lambda: 0.0)
    with pytest.raises(ConfigurationError, match=rf"^{kind}:.*VENDOR_TOKEN.*sync-pipeline\[{kind}\]"):
        secrets.get("VENDOR_TOKEN")


class TestKeyring:
    SOURCE = KeyringSource("sync-pipeline")

    def test_a_password_by_service_and_name(self) -> None:
        backend = pytest.importorskip("keyring.backend")

        class InMemory(backend.KeyringBackend):  # type: ignore[misc, name-defined]
            priority = 1

            def __init__(self) -> None:
                super().__init__()
                self.kept: dict[tuple[str, str], str] = {}

            def get_password(self, service: str, username: str) -> str | None:
                return self.kept.get((service, username))

            def set_password(self, service: str, username: str, password: str) -> None:
                self.kept[service, username] = password

        ring = InMemory()
        ring.set_password("sync-pipeline", "VENDOR_TOKEN", VALUE)
        ring.set_password("another", "OTHER", VALUE)
        secrets = KeyringSecrets(self.SOURCE, ring)
        assert secrets.get("VENDOR_TOKEN") == Secret(VALUE)
        with pytest.raises(SecretNotFound, match="keyring:sync-pipeline has no secret OTHER"):
            secrets.get("OTHER")

    def test_the_null_keyring_has_nothing(self) -> None:
        null = pytest.importorskip("keyring.backends.null")
        with pytest.raises(SecretNotFound, match="VENDOR_TOKEN"):
            KeyringSecrets(self.SOURCE, null.Keyring()).get("VENDOR_TOKEN")

    def test_no_keyring_at_all_is_a_mistake_to_mend(self) -> None:
        fail = pytest.importorskip("keyring.backends.fail")
        with pytest.raises(ConfigurationError, match=r"VENDOR_TOKEN \(NoKeyringError\)") as error:
            KeyringSecrets(self.SOURCE, fail.Keyring()).get("VENDOR_TOKEN")
        assert not isinstance(error.value, SecretNotFound)
        assert chain_of(error.value) == [error.value]


class TestAws:
    """Through botocore's Stubber: it checks parameters and answers against the service's own model."""

    def ask(self, setting: str, name: str, answer: dict[str, object] | str, secret_id: str) -> Secret:
        boto3 = pytest.importorskip("boto3")
        stub = pytest.importorskip("botocore.stub")
        client = boto3.session.Session("AK", "SK").client("secretsmanager", region_name="eu-central-1")
        (source,) = parse_sources(setting)
        assert isinstance(source, AwsSource)
        with stub.Stubber(client) as stubber:
            if isinstance(answer, str):
                stubber.add_client_error(
                    "get_secret_value", answer, f"about {VALUE}", 400, expected_params={"SecretId": secret_id}
                )
            else:
                stubber.add_response("get_secret_value", answer, {"SecretId": secret_id})
            return AwsSecrets(source, lambda: client).get(name)

    def test_a_secret_a_name(self) -> None:
        assert self.ask("aws:eu-central-1/sync/", "A", {"SecretString": VALUE}, "sync/A") == Secret(VALUE)

    def test_one_secret_with_many_keys(self) -> None:
        held = {"SecretString": f'{{"A": "{VALUE}", "B": "x"}}'}
        assert self.ask("aws:eu-central-1/sync", "A", held, "sync") == Secret(VALUE)

    @pytest.mark.parametrize(
        ("answer", "kind", "words"),
        [
            ("ResourceNotFoundException", SecretNotFound, "nothing there"),
            ("ThrottlingException", SecretUnreachable, "does not serve now"),
            ("InternalServiceError", SecretUnreachable, "does not serve now"),
            ("AccessDeniedException", ConfigurationError, "refuses"),
            ({"SecretBinary": VALUE.encode()}, ConfigurationError, "bytes"),
            ({"SecretString": f"{VALUE} no json"}, ConfigurationError, "no JSON object"),
            ({"SecretString": f'["{VALUE}"]'}, ConfigurationError, "no JSON object"),
            ({"SecretString": f'{{"B": "{VALUE}"}}'}, SecretNotFound, "no key"),
            ({"SecretString": f'{{"A": ["{VALUE}"]}}'}, ConfigurationError, "something else than text"),
        ],
    )
    def test_errors(self, answer: dict[str, object] | str, kind: type[ConfigurationError], words: str) -> None:
        with pytest.raises(
            ConfigurationError, match=f"^aws:eu-central-1/sync, asked for the secret A, .*{words}"
        ) as error:
            self.ask("aws:eu-central-1/sync", "A", answer, "sync")
        assert type(error.value) is kind
        assert chain_of(error.value) == [error.value]
        assert VALUE not in fields_of(error.value)

    def test_no_credentials(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("boto3")
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(ConfigurationError, match=r"A, cannot be used as it is set up \(NoCredentialsError\)"):
            open_secrets({"SYNC_SECRETS": "aws:eu-central-1/sync/"}, now=lambda: 0.0).get("A")
