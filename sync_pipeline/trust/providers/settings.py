"""What SYNC_SECRETS means: text to sources, pure.

    env                                     variables, NAME_FILE, /run/secrets
    file:/run/secrets                       one file a name
    keyring:sync-pipeline                   the system's keyring, under this service
    vault:https://vault:8200/secret/sync    KV v2: base URL, mount, path
    aws:eu-central-1/sync/                  Secrets Manager: region, prefix

Several, separated by commas, are asked in order. For vault and aws a path that ends in `/` is a folder with one secret a
name; any other is one secret whose fields are the names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.secrets import checked_name

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_PATH = re.compile(r"[A-Za-z0-9_.@+=-]+(/[A-Za-z0-9_.@+=-]+)*")
"""Characters that both Vault and AWS allow, so that nothing has to be quoted."""


@dataclass(frozen=True, slots=True)
class EnvironmentSource:
    label: str = "env"


@dataclass(frozen=True, slots=True)
class FolderSource:
    folder: Path

    @property
    def label(self) -> str:
        return f"file:{self.folder}"


@dataclass(frozen=True, slots=True)
class KeyringSource:
    service: str

    @property
    def label(self) -> str:
        return f"keyring:{self.service}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where names are found below a path. `folder`: one secret a name; else one secret whose fields are the names."""

    path: str
    folder: bool

    def secret(self, name: str) -> str:
        """The path of the secret that holds this name."""
        return "/".join(part for part in (self.path, name) if part) if self.folder else self.path

    def __str__(self) -> str:
        return f"{self.path}/" if self.folder and self.path else self.path


@dataclass(frozen=True, slots=True)
class VaultSource:
    """`token_env`: the name under which the environment (or NAME_FILE) holds Vault's own token."""

    base_url: str
    mount: str
    place: Place
    token_env: str = "VAULT_TOKEN"  # noqa: S105 - a name
    namespace: str | None = None

    @property
    def label(self) -> str:
        return f"vault:{self.base_url}/{self.mount}/{self.place}"


@dataclass(frozen=True, slots=True)
class AwsSource:
    region: str
    place: Place

    @property
    def label(self) -> str:
        return f"aws:{self.region}/{self.place}"


Source = EnvironmentSource | FolderSource | KeyringSource | VaultSource | AwsSource


def parse_sources(setting: str) -> tuple[Source, ...]:
    """The sources in the order they are asked; blank means `env`.

    Raises ConfigurationError. It names the entry by its number and never repeats it: a value might have been put there.
    """
    entries = [entry.strip() for entry in setting.split(",")] if setting.strip() else ["env"]
    return tuple(_source(number, entry) for number, entry in enumerate(entries, 1))


def _source(number: int, entry: str) -> Source:
    kind, _, rest = entry.partition(":")
    read = _KINDS.get(kind)
    problem = f"is none of {', '.join(_KINDS)}"
    if read is not None:
        found = read(rest)
        if not isinstance(found, str):
            return found
        problem = f"({kind}) {found}"
    raise ConfigurationError(f"SYNC_SECRETS: entry {number} {problem}; docs/secrets.md shows the forms")


def _environment(rest: str) -> Source | str:
    return "takes no argument" if rest else EnvironmentSource()


def _folder(rest: str) -> Source | str:
    return FolderSource(Path(rest)) if Path(rest).is_absolute() else "needs an absolute path, as in file:/run/secrets"


def _keyring(rest: str) -> Source | str:
    return KeyringSource(rest) if _PATH.fullmatch(rest) else "needs a service, as in keyring:sync-pipeline"


def _vault(rest: str) -> Source | str:
    try:
        url = urlsplit(rest)
        host, _ = url.hostname, url.port
    except ValueError:
        return "has no valid URL"
    if url.scheme not in ("http", "https") or not host or url.fragment:
        return "needs a URL, as in vault:https://vault:8200/secret/sync"
    if "@" in url.netloc:
        return "holds a user or password in its URL; the token comes from the variable that token_env names"
    if url.scheme == "http" and not _is_loopback(host):
        return "would send its token unencrypted; plain http is for this machine only"
    try:
        pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=True) if url.query else []
    except ValueError:
        return "has a query that cannot be read"
    options = dict(pairs)
    if len(pairs) > len(options) or not options.keys() <= {"mount", "token_env", "namespace"}:
        return "may have the options mount, token_env and namespace, each once"
    return _vault_source(url, options)


def _vault_source(url: SplitResult, options: Mapping[str, str]) -> Source | str:
    path = url.path.removeprefix("/")
    mount = options.get("mount", "")
    if not mount:
        mount, _, path = path.partition("/")
        if not path and not url.path.endswith("/"):
            return "needs a mount and a path, as in vault:https://vault:8200/secret/sync"
    place = _place(path)
    namespace = options.get("namespace")
    if place is None or not _PATH.fullmatch(mount) or (namespace is not None and not _PATH.fullmatch(namespace)):
        return "may have letters, digits and _.@+=- between the slashes of its mount, path and namespace"
    token_env = options.get("token_env", "VAULT_TOKEN")
    try:
        checked_name(token_env)
    except ConfigurationError:
        return "needs the name of a variable as token_env"
    return VaultSource(f"{url.scheme}://{url.netloc}", mount, place, token_env, namespace)


def _aws(rest: str) -> Source | str:
    region, _, path = rest.partition("/")
    place = _place(path)
    if not _REGION.fullmatch(region):
        return "needs a region first, as in aws:eu-central-1/sync/"
    if place is None:
        return "may have letters, digits and _.@+=- between the slashes of its prefix"
    return AwsSource(region, place)


def _place(path: str) -> Place | None:
    bare = path.removesuffix("/")
    if bare and (not _PATH.fullmatch(bare) or {".", ".."} & set(bare.split("/"))):
        return None
    return Place(bare, folder=not bare or path.endswith("/"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_KINDS: Mapping[str, Callable[[str], Source | str]] = {
    "env": _environment,
    "file": _folder,
    "keyring": _keyring,
    "vault": _vault,
    "aws": _aws,
}
