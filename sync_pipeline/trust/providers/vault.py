"""Secrets from HashiCorp Vault's key-value engine, version 2, through the `vault` extra (hvac)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers.settings import VaultSource
from sync_pipeline.trust.secrets import Secret, SecretNotFound, SecretProvider, SecretUnreachable, checked_name, settled

FIELD = "value"
"""The field that is read where each name is a secret of its own."""

TIMEOUT_S = 5.0


class VaultSecrets:
    """Reads the newest version with every call. `tokens` gives Vault's own token, read anew too.

    https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version
    """

    def __init__(self, source: VaultSource, *, tokens: SecretProvider, timeout_s: float = TIMEOUT_S) -> None:
        self._source = source
        self._tokens = tokens
        self._timeout_s = timeout_s

    def get(self, name: str) -> Secret:
        return settled(self._read(checked_name(name)))

    def _read(self, name: str) -> Secret | ConfigurationError:
        source = self._source
        asked = f"{source.label}, asked for the secret {name},"
        try:
            token = self._tokens.get(source.token_env)
        except ConfigurationError:
            return ConfigurationError(
                f"{asked} needs its own token: put it into {source.token_env} or {source.token_env}_FILE"
            )
        fields = self._fields(name, asked, token)
        if isinstance(fields, ConfigurationError):
            return fields
        field = FIELD if source.place.folder else name
        value = fields.get(field)
        if value is None or value == "":
            return SecretNotFound(f"{asked} has no field {field} there")
        if not isinstance(value, str) or not value.strip():
            return ConfigurationError(f"{asked} holds something else than text in the field {field}")
        return Secret(value.strip())

    def _fields(self, name: str, asked: str, token: Secret) -> Mapping[str, Any] | ConfigurationError:
        """Errors are returned, not raised: an answer's text must not hang on them as context."""
        try:
            import hvac
            from hvac import exceptions
            from requests.exceptions import RequestException
        except ImportError:
            return ConfigurationError(f"{asked} cannot be reached: install sync-pipeline[vault] and start again")
        source = self._source
        # A redirect could carry the token to another host: requests strips Authorization there, not X-Vault-Token.
        client = hvac.Client(
            url=source.base_url,
            token=token.reveal(),
            timeout=self._timeout_s,
            namespace=source.namespace,
            allow_redirects=False,
        )
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                path=source.place.secret(name), mount_point=source.mount, raise_on_deleted_version=True
            )
            fields = answer["data"]["data"]
        except exceptions.InvalidPath:
            return SecretNotFound(f"{asked} has nothing at this mount and path, or it was deleted")
        except (exceptions.Forbidden, exceptions.Unauthorized):
            return ConfigurationError(f"{asked} refuses: renew the token in {source.token_env} or its policy")
        except (
            exceptions.VaultDown,
            exceptions.VaultNotInitialized,
            exceptions.UnexpectedError,  # hvac does not say which status: 412 and a proxy's 504 pass, a 405 is told late
            exceptions.InternalServerError,
            exceptions.BadGateway,
            exceptions.RateLimitExceeded,
        ):
            return SecretUnreachable(f"{asked} does not serve now (sealed, overloaded or failing)")
        except RequestException as error:
            return SecretUnreachable(f"{asked} cannot be reached ({type(error).__name__})")
        except exceptions.VaultError as error:
            return ConfigurationError(f"{asked} refuses the request ({type(error).__name__})")
        except (KeyError, TypeError, ValueError, AttributeError):
            fields = None
        finally:
            client.adapter.close()
        if not isinstance(fields, Mapping):
            return ConfigurationError(f"{asked} did not answer as a key-value engine of version 2 does")
        return fields
