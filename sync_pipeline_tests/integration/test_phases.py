"""Transformation needs no credential and can reach none: not by import, not by environment, not through its objects."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import sync_pipeline
from sync_pipeline.runtime import Runtime, load_setups, open_runtime
from sync_pipeline.trust.providers.cached import CachedSecrets, ChainedSecrets, Labelled
from sync_pipeline.trust.providers.folder import FolderSecrets
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret
from sync_pipeline_tests.secret_tools import reachable
from sync_pipeline_tests.things import ThingContract

VALUE = "sesame-open-7731"
ROOMS = (
    "sync_pipeline.trust.secrets",
    "sync_pipeline.trust.values",
    "sync_pipeline.trust.providers",
    "sync_pipeline.gateway",
)
"""Where secrets, their sources and those who send them are defined."""

ROOT = Path(sync_pipeline.__file__).parent.parent

ORDER = {
    "code": "ABC12",
    "event": "conf",
    "status": "p",
    "email": "someone@example.com",
    "datetime": "2026-01-01T10:00:00Z",
    "last_modified": "2026-01-01T10:00:00Z",
    "total": "10.00",
    "testmode": False,
    "payments": [],
    "refunds": [],
    "positions": [],
}

TRANSFORM = """
import json, os, sys
assert set(os.environ) <= {"PYTHONPATH", "LC_CTYPE"}, "an environment without any secret"
from sync_pipeline.contracts import load_contract
from sync_pipeline.kernel.canonical import Canonical
from sync_pipeline.kernel.feed import RawRecord
from sync_pipeline.ledger.checked import check_page

contract = load_contract(sys.argv[1], options={}, connection="c", vendor="pretix")
page = check_page(1, [RawRecord(value) for value in json.load(sys.stdin)], contract)
loaded = [name for name in sys.modules if name.startswith(("sync_pipeline.trust.secrets", "sync_pipeline.trust.providers",
          "sync_pipeline.gateway", "sync_pipeline.runtime"))]
print(json.dumps({"valid": len(page.valid), "rejected": len(page.rejected), "loaded": loaded}))
"""


def test_a_page_is_transformed_without_environment_and_without_the_modules_of_secrets() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRANSFORM, "sync_pipeline.contracts.pretix:OrderContract"],
        input=json.dumps([ORDER, {"code": "BROKEN"}]),
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {"valid": 1, "rejected": 1, "loaded": []}


def credentials_in(root: object) -> set[str]:
    """What `root` holds of secrets: types by name, and `value` for the bare value."""
    found = set()
    for one in reachable(root):
        kind = type(one)
        if str(kind.__module__).startswith(ROOMS):  # (a compiled class may have a descriptor there)
            found.add(kind.__name__)
        elif kind is str and VALUE in one:  # type: ignore[operator]
            found.add("value")
    return found


@pytest.fixture
async def runtime(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    """A whole runtime whose secrets have been read: they are in its cache, as in the middle of a session."""
    for name in ("EVENTBRITE_TOKEN", "PRETIX_TOKEN"):
        (tmp_path / name).write_text(VALUE)
        monkeypatch.setenv(name, VALUE)
    cached = CachedSecrets(FolderSecrets(tmp_path), now=lambda: 0.0, ttl_s=60, keep_s=60)
    chain = ChainedSecrets([Labelled("file", cached), Labelled("env", EnvironmentSecrets())])
    assert chain.get("PRETIX_TOKEN") == Secret(VALUE)
    async with open_runtime(url=database_url, objects=tmp_path / "landing", secrets=chain) as opened:
        yield opened


async def test_who_sends_holds_the_source_and_who_transforms_does_not(runtime: Runtime) -> None:
    setups = load_setups()
    assert set(setups) == {"eventbrite", "pretix"}
    for setup in setups.values():
        assert credentials_in(runtime.gateway(setup)) >= {
            "Gateway",
            "ChainedSecrets",
            "CachedSecrets",
            "Secret",
            "value",
        }
        assert credentials_in(setup) == set(), "what a session is set up from has names only"
        for feed in setup.feeds.values():
            assert credentials_in(feed.contract) == set()
    for room in (runtime.ledger, runtime.landing, runtime.quarantine):
        assert len(list(reachable(room))) > 1000, "the walk went through the database's pool"
        assert credentials_in(room) == set()


async def test_the_runtime_takes_its_source_from_the_setting(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "PRETIX_TOKEN").write_text(VALUE)
    monkeypatch.setenv("PRETIX_TOKEN", "not this one")
    monkeypatch.setenv("SYNC_SECRETS", f"file:{tmp_path}")
    async with open_runtime(url=database_url, objects=tmp_path / "landing") as opened:
        assert opened.secrets.get("PRETIX_TOKEN") == Secret(VALUE)


class _Slotted:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


def _closure(held: object) -> Callable[[], object]:
    return lambda: held


def _default(held: object) -> Callable[..., object]:
    return lambda given=held: given


@pytest.mark.parametrize(
    "hide",
    [_Slotted, _closure, _default, lambda held: functools.partial(print, held), lambda held: {"deep": [(held,)]}],
)
@pytest.mark.parametrize(
    ("held", "name"),
    [(Secret(VALUE), "Secret"), (EnvironmentSecrets({}).get, "EnvironmentSecrets"), (_closure(VALUE), "value")],
)
def test_a_contract_that_hides_one_would_be_found(
    hide: Callable[[object], object], held: Callable[..., object], name: str
) -> None:
    contract = ThingContract()
    assert credentials_in(contract) == set()
    contract.unknown = hide(held)  # type: ignore[assignment]
    assert name in credentials_in(contract)
