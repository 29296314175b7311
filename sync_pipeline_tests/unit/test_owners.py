"""A worker is called dead only where its pid says so; one that lives under another kernel or namespace keeps its lease."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sync_pipeline.landing import owners
from sync_pipeline.landing.owners import is_gone, this_process

LINUX = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="only Linux tells namespaces apart")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    owners._namespace.cache_clear()
    yield
    owners._namespace.cache_clear()


def place(monkeypatch: pytest.MonkeyPatch, folder: Path, *, boot: str, namespace: Path) -> None:
    """A /proc with the real processes, and a namespace told apart by the inode of a file."""
    (folder / "sys/kernel/random").mkdir(parents=True)
    (folder / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
    (folder / "self/ns").mkdir(parents=True)
    os.link(namespace, folder / "self/ns/pid")
    (folder / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(owners, "PROC", folder)
    owners._namespace.cache_clear()


def ended() -> str:
    """The name of a process that has ended."""
    code = "from sync_pipeline.landing.owners import this_process; print(this_process('s'))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_one_that_lives_is_not_gone_and_one_that_ended_is() -> None:
    assert not is_gone(this_process("s"))
    assert is_gone(ended())


def test_a_pid_that_was_given_away_again_is_another_process() -> None:
    there, pid, started, session = this_process("s").split("|")
    assert is_gone("|".join([there, pid, f"{started}1", session]))


def test_one_that_nobody_has_asked_for_its_end_is_gone() -> None:
    code = "from sync_pipeline.landing.owners import this_process; print(this_process('s'), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        name = child.stdout.read().strip()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(name), "a zombie"


@LINUX
def test_two_containers_with_one_host_name_bury_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("")
    two.write_text("")
    boot = str(uuid.uuid4())
    place(monkeypatch, tmp_path / "a", boot=boot, namespace=one)
    there, _, started, session = this_process("s").split("|")
    dead = "|".join([there, "4194305", started, session])
    assert is_gone(dead)
    place(monkeypatch, tmp_path / "b", boot=boot, namespace=two)
    assert not is_gone(dead), "another namespace"
    place(monkeypatch, tmp_path / "c", boot=str(uuid.uuid4()), namespace=one)
    assert not is_gone(dead), "another machine: the first namespace of each kernel has the same number"


@LINUX
def test_an_older_name_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_gone(f"{socket.gethostname()}|4194305|1700000000.00|s")


@LINUX
def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    name = this_process("s")
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
    assert not is_gone(name)


def test_without_namespaces_the_host_and_the_pid_decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owners, "PROC", tmp_path)
    owners._namespace.cache_clear()
    name = this_process("s")
    assert name.startswith(f"{socket.gethostname()}|{os.getpid()}|")
    assert not is_gone(name)
    assert is_gone(f"{socket.gethostname()}|4194305|1700000000.00|s")
    assert not is_gone("elsewhere|4194305|1700000000.00|s")
