"""Secrets from AWS Secrets Manager, through the `aws` extra (boto3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers.settings import AwsSource
from sync_pipeline.trust.secrets import Secret, SecretNotFound, SecretUnreachable, checked_name, settled

TIMEOUT_S = 5.0
PASSING = frozenset(
    {"InternalServiceError", "InternalServiceErrorException", "ThrottlingException", "ServiceUnavailable"}
)
"""Error codes that say nothing about the secret:
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html and its common errors."""


class AwsSecrets:
    """Reads the version AWSCURRENT with every call. boto3 finds its own credentials (role, profile, variables).

    `client`: makes the Secrets Manager client, once, when it is first needed.
    """

    def __init__(self, source: AwsSource, client: Callable[[], Any] | None = None) -> None:
        self._source = source
        self._make = client or self._open
        self._client: Any = None

    def get(self, name: str) -> Secret:
        return settled(self._read(checked_name(name)))

    def _open(self) -> Any:
        import boto3
        from botocore.config import Config

        # A session of our own: boto3's shared one must not be used from several threads.
        config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 2})
        return boto3.session.Session().client("secretsmanager", region_name=self._source.region, config=config)

    def _read(self, name: str) -> Secret | ConfigurationError:
        place = self._source.place
        asked = f"{self._source.label}, asked for the secret {name},"
        text = self._text(place.secret(name), asked)
        if isinstance(text, ConfigurationError):
            return text
        value: Any = text
        if not place.folder:
            try:
                fields = orjson.loads(text)
            except orjson.JSONDecodeError:
                fields = None
            if not isinstance(fields, dict):
                return ConfigurationError(
                    f"{asked} holds no JSON object there; end the setting in '/' for a secret a name"
                )
            value = fields.get(name)
            if value is None:
                return SecretNotFound(f"{asked} has no key of that name there")
            if not isinstance(value, str):
                return ConfigurationError(f"{asked} holds something else than text under that key")
        return Secret(value.strip()) if value.strip() else SecretNotFound(f"{asked} holds an empty value there")

    def _text(self, secret_id: str, asked: str) -> str | ConfigurationError:
        """Errors are returned, not raised: an answer's text must not hang on them as context."""
        try:
            from botocore import exceptions

            self._client = self._client or self._make()
        except ImportError:
            return ConfigurationError(f"{asked} cannot be reached: install sync-pipeline[aws] and start again")
        try:
            text = self._client.get_secret_value(SecretId=secret_id).get("SecretString")
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code == "ResourceNotFoundException":
                return SecretNotFound(f"{asked} has nothing there")
            if code in PASSING:
                return SecretUnreachable(f"{asked} does not serve now ({code})")
            return ConfigurationError(f"{asked} refuses ({code if code.isalnum() else 'unknown code'})")
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            return SecretUnreachable(f"{asked} cannot be reached ({type(error).__name__})")
        except exceptions.BotoCoreError as error:
            return ConfigurationError(f"{asked} cannot be used as it is set up ({type(error).__name__})")
        if not isinstance(text, str):
            return ConfigurationError(f"{asked} holds bytes there, not text")
        return text
