"""The cache before a slow source, against a plain model of what it promises."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers.cached import CachedSecrets
from sync_pipeline.trust.secrets import Secret, SecretNotFound, SecretUnreachable

TTL_S, KEEP_S = 60.0, 600.0
KINDS = ("value", "missing", "unreachable", "refused")


@dataclass
class World:
    """A source whose state is a kind and a generation; each answer says when it was true."""

    kind: str = "value"
    generation: int = 0
    asked: int = 0

    def get(self, name: str) -> Secret:
        self.asked += 1
        if self.kind == "value":
            return Secret(f"generation-{self.generation}")
        raise {"missing": SecretNotFound, "unreachable": SecretUnreachable, "refused": ConfigurationError}[self.kind](
            name
        )


Steps = st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 400, allow_nan=False)), min_size=1, max_size=30)


@given(Steps)
def test_no_answer_is_older_than_promised(steps: list[tuple[str, float]]) -> None:
    world, clock = World(), [0.0]
    cache = CachedSecrets(world, now=lambda: clock[0], ttl_s=TTL_S, keep_s=KEEP_S)
    said = ""
    answered = -1e9  # when the source last gave a value or said "missing"
    asked_at = -1e9
    for kind, wait in steps:
        clock[0] += wait
        world.kind = kind
        world.generation += 1
        before = world.asked
        would_wait = cache.waits("A")
        outcome = outcome_of(cache)
        asks = world.asked - before
        assert asks == int(would_wait), "waits() says whether get() asks"
        if clock[0] - asked_at >= TTL_S:
            assert asks == 1, "older than the ttl is asked again"
        if asks:
            asked_at = clock[0]
            if kind in ("value", "missing"):
                answered = clock[0]
                said = f"generation-{world.generation}" if kind == "value" else kind
        if kind == "refused" and asks:
            assert outcome == "refused", "a refusal is never covered by an old answer"
        if outcome in ("unreachable", "refused"):
            assert asks, "a failure is never remembered"
            answered = asked_at = -1e9
        else:
            age = clock[0] - answered
            assert age < KEEP_S
            assert outcome == said, "it is what the source said then"


def outcome_of(cache: CachedSecrets) -> str:
    try:
        return cache.get("A").reveal()
    except SecretNotFound:
        return "missing"
    except SecretUnreachable:
        return "unreachable"
    except ConfigurationError:
        return "refused"


@given(st.floats(0, 59.9), st.floats(60, 1e6))
def test_a_rotation_is_seen_after_the_ttl_and_not_before(early: float, late: float) -> None:
    world, clock = World(), [0.0]
    cache = CachedSecrets(world, now=lambda: clock[0], ttl_s=TTL_S, keep_s=KEEP_S)
    assert cache.get("A") == Secret("generation-0")
    world.generation = 1
    clock[0] = early
    assert cache.get("A") == Secret("generation-0")
    assert world.asked == 1
    clock[0] = late
    assert cache.get("A") == Secret("generation-1")
