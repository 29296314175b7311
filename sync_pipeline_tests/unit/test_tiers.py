"""The file that maps ticket kinds to tiers: what is written is what is meant, or a sentence says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_pipeline.contracts.tiers import Tier, load_tiers
from sync_pipeline.kernel.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("skus: [a, b]", "skus must have lines like `conference/1001: VIP`, not a list or a single value"),
        ("skus: VIP", "skus must have lines like"),
        ("names: early", "names must have lines like `'early.advance': EARLY_BIRD`"),
        ("names:\n  - early: VIP", "names must have lines like"),
        ("- {a: b}", "must have the keys skus and names"),
        ("- a", "must have the keys skus and names"),
        ("5", "must have the keys skus and names"),
        ("just text", "must have the keys skus and names"),
        ("skus:\n  0123: VIP", "line 2: the key '0123' is no text for YAML; put it in quotes"),
        ("skus:\n  1_000: VIP", "line 2: the key '1_000' is no text"),
        ("skus:\n  0x1f: VIP", "line 2: the key '0x1f' is no text"),
        ("skus:\n  1:30: VIP", "line 2: the key '1:30' is no text"),
        ("skus:\n  1.50: VIP", "line 2: the key '1.50' is no text"),
        ("skus:\n  yes: VIP", "line 2: the key 'yes' is no text"),
        ("skus:\n  ~: VIP", "line 2: the key '~' is no text"),
        ("skus:\n  2026-01-01: VIP", "line 2: the key '2026-01-01' is no text"),
        ("skus:\n  [a]: VIP", "line 2: the key '' is no text"),
        ("skus:\n  '1': VIP\n  '1': GENERAL", "line 3: the key '1' stands twice; take one of them out"),
        ("skus:\n  '1': VIP\n  1: GENERAL", "line 3: the key '1' stands twice"),
        ("names: {a: VIP, a: GENERAL}", "line 1: the key 'a' stands twice"),
        ("skus: {a: VIP}\nskus: {b: VIP}", "line 2: the key 'skus' stands twice"),
        ("skus: {a: {b: c}}", "is no tier; tiers are"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load_tiers(file)
    assert "tiers.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "skus:\nnames:\n", "# nothing yet", "{}"])
def test_a_file_without_tiers_maps_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text(text)
    assert load_tiers(file).tier("e", "1", "Gold") is Tier.UNKNOWN_TIER


def test_plain_numbers_need_no_quotes(tmp_path: Path) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text("skus: {1001: VIP, '0123': STAFF, e/0123: PRESS, 0: SPEAKER}\n")
    tiers = load_tiers(file)
    assert [tiers.tier("x", sku, "") for sku in ("1001", "0123", "0", "83")] == [
        Tier.VIP,
        Tier.STAFF,
        Tier.SPEAKER,
        Tier.UNKNOWN_TIER,
    ]
    assert tiers.tier("e", "0123", "") is Tier.PRESS
