"""One JSON object per line, masked wherever the line goes, and other people's loggers left alone."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.telemetry.logs import (
    TRANSPORT,
    StderrHandler,
    configure,
    wanted_level,
)
from sync_pipeline.trust.logger import TREE, get_logger
from sync_pipeline.trust.secrets import Secret

NAMES = (TREE, *TRANSPORT)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is the process's: put it back."""
    before = [(logging.getLogger(n), logging.getLogger(n).level, logging.getLogger(n).propagate) for n in NAMES]
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for logger, level, propagate in before:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in [handler for handler in logger.handlers if isinstance(handler, StderrHandler)]:
            logger.removeHandler(handler)


class Kept(logging.Handler):
    """What another handler on our tree sees, as Dagster's does."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self) -> str:
        return "\n".join(f"{record.getMessage()} {record.exc_info} {vars(record)}" for record in self.records)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    logging.getLogger(TREE).addHandler(handler)
    yield handler
    logging.getLogger(TREE).removeHandler(handler)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.contextvars.bind_contextvars(correlation_id="s1")
    get_logger("sync_pipeline.sessions.walk").info("pages landed", feed="orders", pages=3, codes={"A": 1})
    [line] = lines(capsys)
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "level": "info",
        "logger": "sync_pipeline.sessions.walk",
        "event": "pages landed",
        "correlation_id": "s1",
        "feed": "orders",
        "pages": 3,
        "codes": {"A": 1},
    }


def test_structlogs_own_get_logger_is_the_same(capsys: pytest.CaptureFixture[str], kept: Kept) -> None:
    configure()
    structlog.get_logger("sync_pipeline.gateway.client").warning("slow", endpoint="/orders/", note="a@b.example")
    [line] = lines(capsys)
    assert (line["logger"], line["level"], line["note"]) == ("sync_pipeline.gateway.client", "warning", "[masked]")
    [record] = kept.records
    assert (record.name, record.levelno) == ("sync_pipeline.gateway.client", logging.WARNING)
    assert record.getMessage() == "slow endpoint=/orders/ note=[masked]"


def test_configure_again_only_changes_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure(level="DEBUG")
    configure()
    configure(level="warning")
    log = get_logger("sync_pipeline.x")
    log.info("not wanted")
    log.warning("wanted")
    assert [line["event"] for line in lines(capsys)] == ["wanted"]
    configure(level="DEBUG")
    log.debug("wanted too")
    assert [line["event"] for line in lines(capsys)] == ["wanted too"]


def test_stderr_stays_quiet_when_somebody_lowers_the_loggers_level(
    capsys: pytest.CaptureFixture[str], kept: Kept
) -> None:
    configure(level="WARNING")
    logging.getLogger(TREE).setLevel(logging.INFO)
    get_logger("sync_pipeline.x").info("for the run log")
    assert lines(capsys) == []
    assert [record.getMessage() for record in kept.records] == ["for the run log"]


def test_every_handler_sees_masked_events(capsys: pytest.CaptureFixture[str], kept: Kept) -> None:
    configure()
    secret = Secret("planted/secret value-9")
    secret.reveal()
    log = get_logger("sync_pipeline.x")
    log.info("sent to planted@person.example", email="planted@person.example", nested=[{"first_name": "planted"}])
    log.info("args %s", "planted@person.example")
    log.info(
        "header", headers={"Authorization": "Bearer planted", "x": secret.reveal()}, body=b"t=planted/secret value-9"
    )
    try:
        raise ValueError("row (email)=(planted@person.example) of planted/secret value-9")
    except ValueError:
        log.exception("failed")
    structlog.contextvars.bind_contextvars(note="planted@person.example")
    log.info("bound", stack_info=True)
    shown = capsys.readouterr().err
    assert "planted" not in "\n".join(line for line in shown.splitlines() if '"stack"' not in line)
    assert "planted@" not in shown
    assert "ValueError" in shown
    assert len(shown.splitlines()) == 5
    assert "planted@" not in kept.texts()
    assert "planted/secret" not in kept.texts()
    assert "'planted'" not in kept.texts()
    assert all(record.exc_info is None for record in kept.records)


def test_masked_without_configure_too(kept: Kept) -> None:
    get_logger("sync_pipeline.x").error("planted@person.example")
    assert [record.getMessage() for record in kept.records] == ["[masked]"]


def test_records_of_plain_logging_are_rendered_and_masked(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("sync_pipeline.plain").warning(
        "to %s", "planted@person.example", extra={"phone": "12", "feed": "o"}
    )
    logging.getLogger("httpx").warning("GET https://vendor.example/?token=planted")
    logging.getLogger("httpx").info("GET https://vendor.example/ 200")
    logging.getLogger("httpcore.http11").debug("header")
    try:
        raise ValueError("planted@person.example")
    except ValueError:
        logging.getLogger("httpcore.http11").exception("failed")
    first, second, third = lines(capsys)
    assert (first["event"], first["phone"], first["feed"]) == ("to [masked]", "[masked]", "o")
    assert first["logger"] == "sync_pipeline.plain"
    assert second["event"] == "GET https://vendor.example/?token=[masked]"
    assert third["exception"].endswith("ValueError: [masked]")


def test_loggers_of_others_are_left_alone() -> None:
    others = ["", "dagster", "uvicorn", "uvicorn.access", "asyncio"]
    before = [(list(logging.getLogger(n).handlers), logging.getLogger(n).level) for n in others]
    configure()
    assert [(list(logging.getLogger(n).handlers), logging.getLogger(n).level) for n in others] == before


def test_odd_values_do_not_break_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    get_logger("sync_pipeline.x").info(
        "odd", value=object(), keys={1: {2}, None: 1}, text="\ud800", percent="100 %s %d"
    )
    [line] = lines(capsys)
    assert line["percent"] == "100 %s %d"
    assert line["keys"] == {"1": [2], "None": 1}


def test_a_name_outside_our_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="not below sync_pipeline"):
        get_logger("sync_pipelines.x")


def test_the_level_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="log level 'LOUD' is unknown"):
        configure(level="LOUD")
    assert wanted_level("WARNING", {}) == "WARNING"
    assert wanted_level("WARNING", {"SYNC_LOG_LEVEL": "debug"}) == "debug"


@pytest.mark.parametrize(("level", "shown"), [("", False), ("info", True)])
def test_the_command_line_is_quiet_unless_told(level: str, shown: bool) -> None:
    code = (
        "from sync_pipeline.cli import main, app\n"
        "from sync_pipeline.trust.logger import get_logger\n"
        "from sync_pipeline.cli.app import app\n"
        "@app.command()\n"
        "def talk(): get_logger('sync_pipeline.cli').info('hello')\n"
        "main()"
    ).replace("main, app", "main")
    done = subprocess.run(
        [sys.executable, "-c", code, "talk"],
        env={"PATH": "/usr/bin:/bin", "SYNC_LOG_LEVEL": level},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert ('"event":"hello"' in done.stderr) is shown
