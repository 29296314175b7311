"""A secret leaves its object by `reveal` alone."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret, revealed

VALUE = "sesame-open-7731"


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>40}",
        lambda secret: f"{secret:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: "{0} {0!s}".format(secret),  # noqa: UP032
        lambda secret: repr([secret, {"token": secret}, (secret,)]),
        lambda secret: repr(ValueError(secret)),
        lambda secret: str(KeyError(secret)),
    ],
)
def test_it_does_not_show_itself(show: Callable[[Secret], str]) -> None:
    text = show(Secret(VALUE))
    assert "***" in text
    assert VALUE not in text


@pytest.mark.parametrize(
    "take",
    [
        *[lambda secret, protocol=protocol: pickle.dumps(secret, protocol) for protocol in range(6)],
        lambda secret: pickle.dumps({"deep": [secret]}),
        copy.copy,
        copy.deepcopy,
        lambda secret: copy.deepcopy([secret]),
        json.dumps,
        lambda secret: json.dumps({"token": secret}),
        orjson.dumps,
        vars,
        iter,
        len,
        lambda secret: secret + "",
        lambda secret: "".join([secret]),
    ],
)
def test_it_cannot_be_taken_along(take: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as error:
        take(Secret(VALUE))
    assert VALUE not in str(error.value)


def test_equality_and_hash_are_by_value_and_by_type() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert hash(Secret(VALUE)) != hash(VALUE)
    assert Secret(VALUE) != Secret("another")
    assert Secret(VALUE) != VALUE


def test_masking_knows_what_was_revealed() -> None:
    secret = Secret("only-revealed-here-4412")
    assert "only-revealed-here-4412" not in revealed()
    assert secret.reveal() == "only-revealed-here-4412"
    assert "only-revealed-here-4412" in revealed()


class TestEnvironmentSecrets:
    def test_the_variable_wins_over_files(self, tmp_path: Path) -> None:
        (tmp_path / "VENDOR_TOKEN").write_text("from-folder")
        assert EnvironmentSecrets({"VENDOR_TOKEN": f" {VALUE}\n"}, folder=tmp_path).get("VENDOR_TOKEN") == Secret(VALUE)

    def test_a_named_file(self, tmp_path: Path) -> None:
        (tmp_path / "given").write_text(f"{VALUE}\n")
        provider = EnvironmentSecrets({"VENDOR_TOKEN_FILE": str(tmp_path / "given")}, folder=tmp_path / "none")
        assert provider.get("VENDOR_TOKEN") == Secret(VALUE)

    @pytest.mark.parametrize("name", ["VENDOR_TOKEN", "vendor_token"])
    def test_the_secrets_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(VALUE)
        assert EnvironmentSecrets({}, folder=tmp_path).get("VENDOR_TOKEN") == Secret(VALUE)

    def test_it_is_read_anew(self, tmp_path: Path) -> None:
        provider = EnvironmentSecrets({}, folder=tmp_path)
        for value in ("first-value", "second-value"):
            (tmp_path / "VENDOR_TOKEN").write_text(value)
            assert provider.get("VENDOR_TOKEN") == Secret(value)

    def test_a_missing_one_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="VENDOR_TOKEN is not set"):
            EnvironmentSecrets({}, folder=tmp_path).get("VENDOR_TOKEN")

    @pytest.mark.parametrize(
        "value",
        [
            "a_value_4eC39HqLyjWD",
            "p4ss word/with:signs",
            "9a".rjust(300, "0"),
            "QWERTYUIOPASDFGHJKLZ",
            "QW3RTYU10PASDFGHJKLZ",
            "TOKEN_QW3RTYU10PASDFGHJKLZ",
            "4111-1111",
            "sk_live_abcdefgh",
        ],
    )
    def test_a_value_in_the_place_of_its_name_is_not_repeated(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigurationError, match="the value never stands there") as error:
            EnvironmentSecrets({}, folder=tmp_path).get(value)
        assert value not in str(error.value)

    @pytest.mark.parametrize(
        "name",
        ["T", "PX2", "NOWHERE", "SHOPTOKEN", "EVENTBRITE_TOKEN", "SHOP_2__LIVE", "shop_token", "eventbrite.api-key"],
    )
    def test_what_can_only_be_a_name_is_repeated(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"variable {name} is not set"):
            EnvironmentSecrets({}, folder=tmp_path).get(name)

    @pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe\x00"])
    def test_an_unusable_named_file_is_named_by_its_variable(self, tmp_path: Path, content: bytes | None) -> None:
        (tmp_path / "VENDOR_TOKEN").write_text("must not be used")
        if content is not None:
            (tmp_path / "given").write_bytes(content)
        provider = EnvironmentSecrets({"VENDOR_TOKEN_FILE": str(tmp_path / "given")}, folder=tmp_path)
        with pytest.raises(ConfigurationError, match="VENDOR_TOKEN_FILE cannot be read or is empty") as error:
            provider.get("VENDOR_TOKEN")
        assert str(tmp_path) not in str(error.value)
