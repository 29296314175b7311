"""Secrets by name: what every source of them is, and the first of them, the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.names import surely_name
from sync_pipeline.trust.values import Secret, revealed

__all__ = [
    "EnvironmentSecrets",
    "Secret",
    "SecretNotFound",
    "SecretProvider",
    "SecretUnreachable",
    "checked_name",
    "revealed",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class SecretNotFound(ConfigurationError):
    """This source has no secret of that name; another may."""


class SecretUnreachable(ConfigurationError):
    """The source did not answer; the value read last may still be good."""


def settled(found: Secret | ConfigurationError) -> Secret:
    """What a provider read, or the error it came back with: raised here, apart from the frames that held its answer."""
    if isinstance(found, ConfigurationError):
        raise found
    return found


def checked_name(name: str) -> str:
    """The name, safe as part of a path or URL. Raises ConfigurationError without repeating what it refuses."""
    if _NAME.fullmatch(name):
        return name
    raise ConfigurationError(
        "a secret's name in the YAML is not one: letters, digits, '_', '-' and '.' make a name, the value never stands there"
    )


class SecretProvider(Protocol):
    def get(self, name: str) -> Secret:
        """The secret of that name, as new as the source allows. It may wait for a network (see `providers.read`).

        Raises SecretNotFound, SecretUnreachable or ConfigurationError: one sentence with source and name, never a value.
        """


class EnvironmentSecrets:
    """`NAME` in the environment, or a file whose path is in `NAME_FILE`, or a file called NAME in a secrets folder."""

    def __init__(self, env: Mapping[str, str] = os.environ, *, folder: Path = Path("/run/secrets")) -> None:
        self._env = env
        self._folder = folder

    def get(self, name: str) -> Secret:
        checked_name(name)
        value = self._env.get(name, "").strip()
        if value:
            return Secret(value)
        given = self._env.get(f"{name}_FILE", "").strip()
        for path in [Path(given)] if given else [self._folder / name, self._folder / name.lower()]:
            try:
                value = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                continue
            if value:
                return Secret(value)
        if not given and not surely_name(name):
            raise SecretNotFound(
                "a variable that the YAML names is not set; it is not repeated here, since what does not look like a name may be "
                "the secret itself: write the name of an environment variable, like SHOP_TOKEN, the value never stands there"
            )
        where = f"the file named by {name}_FILE cannot be read or is empty" if given else f"variable {name} is not set"
        # A file that was named and is unusable is a mistake to mend, not a reason to ask the next source.
        raise (ConfigurationError if given else SecretNotFound)(
            f"{where}: put the token into the environment variable {name} (or its file's path into {name}_FILE) "
            "and start again"
        )
