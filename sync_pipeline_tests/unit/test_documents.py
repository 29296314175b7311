"""Where YAML documents lie: what the command line reads is what Dagster loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster.components import ScaffoldRequest

from sync_pipeline.components.scaffolding import VendorConnectionParams, VendorConnectionScaffolder, name_of
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.runtime import COMPONENT, FOLDER, load_configs


def scaffold(folder: Path, **given: Any) -> Path:
    folder.mkdir(parents=True)
    VendorConnectionScaffolder().scaffold(
        ScaffoldRequest(COMPONENT, folder, "yaml", None, VendorConnectionParams(**given))
    )
    return folder / "defs.yaml"


def test_another_account_takes_the_name_of_its_folder(tmp_path: Path) -> None:
    scaffold(tmp_path / "pretix", vendor="pretix")
    scaffold(tmp_path / "My-Pretix", vendor="pretix", organizer="mine")
    scaffold(tmp_path / "box", vendor="rest", name="boxoffice")
    found = load_configs(tmp_path)
    assert {name: config.token_env for name, config in found.items()} == {
        "pretix": "PRETIX_TOKEN",
        "my_pretix": "MY_PRETIX_TOKEN",
        "boxoffice": "BOXOFFICE_TOKEN",
    }


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("mypretix", "mypretix"),
        ("Fair 2026", "fair_2026"),
        ("2026-fair", "rest_2026_fair"),
        ("Größe", "gr_e"),
        ("_", "rest"),
    ],
)
def test_a_name_is_made_of_any_folder(folder: str, name: str) -> None:
    assert name_of(folder, "rest") == name


def test_a_document_that_dagster_would_not_load_is_refused(tmp_path: Path) -> None:
    scaffold(tmp_path / "tickets", vendor="pretix")
    below = scaffold(tmp_path / "tickets" / "more" / "mypretix", vendor="pretix")
    with pytest.raises(
        ConfigurationError, match=r"does not load connection mypretix.* below tickets/defs.yaml"
    ) as caught:
        load_configs(tmp_path)
    assert "\n" not in str(caught.value)
    below.rename(tmp_path / "tickets" / "defs.yml")
    with pytest.raises(
        ConfigurationError, match=r"does not load connection mypretix.* beside or below tickets/defs.yaml"
    ):
        load_configs(tmp_path)


def test_a_document_about_its_folder_hides_none_below(tmp_path: Path) -> None:
    scaffold(tmp_path / "tickets" / "mypretix", vendor="pretix")
    (tmp_path / "tickets" / "defs.yaml").write_text(yaml.safe_dump({"type": FOLDER}))
    assert list(load_configs(tmp_path)) == ["mypretix"]


def test_a_name_given_twice_is_named_with_its_second_place(tmp_path: Path) -> None:
    scaffold(tmp_path / "a", name="shop")
    scaffold(tmp_path / "b", name="shop")
    with pytest.raises(
        ConfigurationError, match=r"shop is declared twice .* again in b/defs.yaml; give one of them another"
    ):
        load_configs(tmp_path)


@pytest.mark.parametrize(
    ("written", "said"), [("type: ü\n".encode("latin-1"), "not in UTF-8"), (b"type: [\n", "line 2 is not valid YAML")]
)
def test_a_document_that_cannot_be_read_is_named(tmp_path: Path, written: bytes, said: str) -> None:
    (tmp_path / "defs.yaml").write_bytes(written)
    with pytest.raises(ConfigurationError, match=rf"^defs\.yaml .*{said}"):
        load_configs(tmp_path)
