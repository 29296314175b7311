"""Secrets by name: where values come from, and a type that keeps them out of logs, dumps and messages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from sync_pipeline.kernel.errors import ConfigurationError

_revealed: set[str] = set()


def revealed() -> frozenset[str]:
    """Values this process has revealed so far: from then on a log line might hold them, so masking must know them."""
    return frozenset(_revealed)


class Secret:
    """A secret value. It shows itself only to `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the one place that sends it; `revealed` knows it from now on."""
        _revealed.add(self._value)
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


class SecretProvider(Protocol):
    def get(self, name: str) -> Secret:
        """The secret of that name, read anew each time. Raises ConfigurationError when it is not there."""


class EnvironmentSecrets:
    """`NAME` in the environment, or a file whose path is in `NAME_FILE`, or a file called NAME in a secrets folder."""

    def __init__(self, env: Mapping[str, str] = os.environ, *, folder: Path = Path("/run/secrets")) -> None:
        self._env = env
        self._folder = folder

    def get(self, name: str) -> Secret:
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
        where = f"the file named by {name}_FILE cannot be read or is empty" if given else f"variable {name} is not set"
        raise ConfigurationError(
            f"{where}: put the vendor's token into the environment variable {name} (or its file's path into {name}_FILE) "
            "and start again"
        )
