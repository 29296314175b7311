"""As root the server is somebody else: where its files are is decided once, and never by an answer that was no answer."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline.kernel.errors import ConfigurationError, TransientError
from sync_pipeline.store.account import TIMES_ASKED, Account, Other
from sync_pipeline.store.embedded import Embedded

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sync account "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def private(open_folder: Path) -> Path:
    """A folder that only root may enter."""
    folder = open_folder / "private"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def account(open_folder: Path) -> Account:
    nobody = pwd.getpwnam("nobody")
    return Account(Other("nobody", nobody.pw_uid, nobody.pw_gid), open_folder / "elsewhere")


def with_cluster(base: Path) -> Path:
    (base / "data").mkdir(parents=True)
    (base / "data" / "PG_VERSION").write_text("18\n")
    return base


def aborting(folder: Path, monkeypatch: pytest.MonkeyPatch, *, times: int) -> Path:
    """A Python that is ended by a signal so many times before it runs; the file that holds how often it was started."""
    started = folder / "started"
    python = folder / "python"
    python.write_text(
        f"#!/bin/sh\necho >> '{started}'\n"
        f"[ $(wc -l < '{started}') -gt {times} ] || kill -ABRT $$\n"
        f"exec '{sys.executable}' \"$@\"\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return started


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


@as_root
def test_it_is_the_wanted_place_where_the_account_may_enter(account: Account, open_folder: Path) -> None:
    assert account.home(open_folder / "wanted") == open_folder / "wanted"
    assert not account.elsewhere.exists()


@as_root
def test_it_is_elsewhere_below_a_private_folder_and_the_same_each_time(account: Account, private: Path) -> None:
    home = account.home(private / "wanted")
    assert home.parent == account.elsewhere
    assert account.home(private / "wanted") == home
    assert account.home(private / "another") != home
    assert account.other is not None
    assert home.stat().st_uid == account.other.user
    assert private.stat().st_mode & 0o777 == 0o700, "a private folder stays private"


@as_root
def test_a_cluster_in_the_wanted_place_is_found_without_asking(
    account: Account, private: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an empty one was once made elsewhere."""
    wanted = private / "wanted"
    with_cluster(account.home(wanted))
    with_cluster(wanted)
    started = aborting(open_folder, monkeypatch, times=TIMES_ASKED)
    assert account.home(wanted) == wanted
    assert not started.exists()


@as_root
def test_a_cluster_elsewhere_is_found_without_asking(
    account: Account, private: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the folder has been opened since."""
    home = with_cluster(account.home(private / "wanted"))
    private.chmod(0o755)
    started = aborting(open_folder, monkeypatch, times=TIMES_ASKED)
    assert account.home(private / "wanted") == home
    assert not started.exists()


@as_root
def test_a_question_that_was_aborted_is_asked_again(
    account: Account, open_folder: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = aborting(open_folder, monkeypatch, times=TIMES_ASKED - 1)
    assert account.home(open_folder / "wanted") == open_folder / "wanted"
    assert lines(started) == TIMES_ASKED
    started.unlink()
    assert account.home(private / "wanted").parent == account.elsewhere
    assert lines(started) == TIMES_ASKED


@as_root
def test_without_an_answer_no_place_is_chosen(
    account: Account, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = aborting(open_folder, monkeypatch, times=100)
    with pytest.raises(TransientError, match="ended with -6, 3 times; no database was made"):
        account.home(open_folder / "wanted")
    with pytest.raises(TransientError, match="ended by signal 6, 3 times; nothing was started"):
        account.runs(Path("/bin/true"))
    assert lines(started) == 2 * TIMES_ASKED
    assert not account.elsewhere.exists()


@as_root
def test_what_the_account_cannot_run_is_told_from_what_was_aborted(
    account: Account, open_folder: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = private / "program"
    shutil.copy("/bin/true", hidden)
    assert not account.runs(hidden)
    aborting(open_folder, monkeypatch, times=1)
    assert account.runs(Path("/bin/true"))


def test_a_server_that_answers_is_found_without_a_process(server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*parts: object) -> None:
        raise AssertionError(f"a process was started: {parts}")

    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
    again = Embedded(server.base)
    assert again.base == server.base
    assert again.ensure("postgres") == server.url("postgres")


@pytest.mark.parametrize("place", ["/proc/nope", "a file"])
def test_a_place_that_cannot_be_made_is_one_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot have its files in .*; set SYNC_DATA_DIR") as caught:
        Embedded(tmp_path / place / "postgres")
    assert "\n" not in str(caught.value)
