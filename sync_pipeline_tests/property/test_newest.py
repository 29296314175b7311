"""Which version of a record stands when a group of pages shows several, against a slow and plain reading of the rule."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.kernel.canonical import Canonical
from sync_pipeline.ledger.newest import newest_of

RECORDS = st.builds(
    lambda name, at, content: Canonical.of(name, f"2026-01-0{at}T00:00:00.000000Z", (content,)),
    st.sampled_from("abc"), st.integers(1, 3), st.sampled_from("xy"),
)  # fmt: skip
PAGES = st.lists(st.lists(RECORDS, max_size=4), max_size=4)


@given(PAGES, st.randoms(use_true_random=False))
def test_the_newest_version_stands_and_every_other_is_accounted_for(shown: list[list[Canonical]], rng: object) -> None:
    ids = list(range(1, len(shown) + 1))
    rng.shuffle(ids)  # type: ignore[attr-defined]
    pages = list(zip(ids, shown, strict=True))
    found = newest_of(pages)

    every = [
        (r.modified_at, number, place, r, page)
        for number, (page, records) in enumerate(pages)
        for place, r in enumerate(records)
    ]
    expected: Counter[int] = Counter()
    outdone: dict[int, Counter[str]] = {}
    for name in {record.vendor_id for *_, record, _ in every}:
        versions = [one for one in every if one[3].vendor_id == name]
        best = max(versions, key=lambda one: one[:3])
        expected[best[4]] += 1
        for one in versions:
            if one is not best:
                same = one[0] == best[0] and one[3].content_hash == best[3].content_hash
                outdone.setdefault(one[4], Counter())["unchanged" if same else "superseded"] += 1

    standing = {page: len(records) for page, records in found.standing if records}
    assert standing == dict(expected)
    assert dict(found.outdone) == outdone
    names = [record.vendor_id for _, records in found.standing for record in records]
    assert sorted(names) == sorted(set(names))
    for page, records in pages:
        assert len(records) == standing.get(page, 0) + sum(found.outdone.get(page, Counter()).values())
