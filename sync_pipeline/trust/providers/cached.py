"""A short memory before a slow source, and several sources as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sync_pipeline.trust.logger import get_logger
from sync_pipeline.trust.secrets import Secret, SecretNotFound, SecretProvider, SecretUnreachable

LOG = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a source said: a secret, or why there is none. `read`, `asked`: when it last answered, and was last asked."""

    answer: Secret | str
    read: float
    asked: float


def is_fresh(kept: Kept | None, now: float, *, ttl_s: float, keep_s: float) -> bool:
    """Whether the source need not be asked: it was, less than `ttl_s` ago, and its answer may still be used."""
    return kept is not None and now - kept.asked < ttl_s and may_stand_in(kept, now, keep_s=max(ttl_s, keep_s))


def may_stand_in(kept: Kept | None, now: float, *, keep_s: float) -> bool:
    """Whether an old answer may be used while its source cannot be reached: it is younger than `keep_s`."""
    return kept is not None and now - kept.read < keep_s


class CachedSecrets:
    """Asks `source` again when `ttl_s` seconds have passed: so soon a rotated secret is seen, without a restart.

    That a name is not there is remembered as long. A source that cannot be reached is stood in for by its last answer for
    at most `keep_s` seconds since it gave it. A refusal is passed on at once and forgets the answer: it was withdrawn.
    `now`: seconds of a clock that only runs forward. Two threads may both ask; either answer is right.
    """

    def __init__(self, source: SecretProvider, *, now: Callable[[], float], ttl_s: float, keep_s: float) -> None:
        self._source = source
        self._now = now
        self._ttl_s = ttl_s
        self._keep_s = keep_s
        self._kept: dict[str, Kept] = {}

    def waits(self, name: str) -> bool:
        """Whether `get` would ask the source now."""
        return not is_fresh(self._kept.get(name), self._now(), ttl_s=self._ttl_s, keep_s=self._keep_s)

    def get(self, name: str) -> Secret:
        now = self._now()
        kept = self._kept.get(name)
        if kept is None or not is_fresh(kept, now, ttl_s=self._ttl_s, keep_s=self._keep_s):
            kept = self._kept[name] = self._ask(name, now)
        if isinstance(kept.answer, str):
            raise SecretNotFound(kept.answer)
        return kept.answer

    def _ask(self, name: str, now: float) -> Kept:
        before = self._kept.pop(name, None)
        try:
            return Kept(self._source.get(name), now, now)
        except SecretNotFound as missing:
            return Kept(str(missing), now, now)
        except SecretUnreachable as error:
            if before is None or not may_stand_in(before, now, keep_s=self._keep_s):
                raise
            LOG.warning("a source of secrets cannot be reached, its last answer stands in", reason=str(error))
            return replace(before, asked=now)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A source as its setting names it."""

    label: str
    secrets: SecretProvider


class ChainedSecrets:
    """Asks sources in order; the first that has the name gives it.

    Only "not there" leads to the next one. A source that fails ends the search: behind it might stand an older value.
    """

    def __init__(self, sources: Sequence[Labelled]) -> None:
        self._sources = tuple(sources)

    def waits(self, name: str) -> bool:
        """Whether any source that `get` may come to would wait."""
        return any(waits(source.secrets, name) for source in self._sources)

    def get(self, name: str) -> Secret:
        missing: list[SecretNotFound] = []
        for source in self._sources:
            try:
                return source.secrets.get(name)
            except SecretNotFound as error:
                missing.append(error)
        if len(missing) == 1:
            raise missing[0]
        labels = ", ".join(source.label for source in self._sources)
        raise SecretNotFound(
            f"the secret {name} is in none of {labels}: put it into one of them, or correct SYNC_SECRETS"
        )


def waits(secrets: SecretProvider, name: str) -> bool:
    """Whether this provider would wait for a network now; one that does not say is taken not to."""
    return isinstance(secrets, CachedSecrets | ChainedSecrets) and secrets.waits(name)
