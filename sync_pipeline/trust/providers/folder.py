"""Secrets as files of one folder, as Docker and Kubernetes mount them."""

from __future__ import annotations

from pathlib import Path

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.secrets import Secret, SecretNotFound, checked_name


class FolderSecrets:
    """The file NAME, or name in small letters, in `folder`. Read with every call: a swapped file is seen at once.

    https://docs.docker.com/engine/swarm/secrets/ and https://kubernetes.io/docs/concepts/configuration/secret/
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> Secret:
        checked_name(name)
        problem: ConfigurationError = SecretNotFound(f"file:{self._folder} has no file for the secret {name}")
        for path in dict.fromkeys((self._folder / name, self._folder / name.lower())):
            # Raised after the handler: the decoder's error carries the file's bytes, and would stay as context.
            try:
                value = path.read_text(encoding="utf-8").strip()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                problem = ConfigurationError(f"file:{self._folder} does not let us read the file of the secret {name}")
                break
            except UnicodeDecodeError:
                problem = ConfigurationError(f"file:{self._folder} holds a file for the secret {name} that is not text")
                break
            if value:
                return Secret(value)
            problem = SecretNotFound(f"file:{self._folder} has an empty file for the secret {name}")
        raise problem
