"""Logs: one JSON object per line on stderr, and the same events, as text, in Dagster's run log; both masked.

Our events pass through the standard library's logging under `sync_pipeline.…`, which Dagster manages during a run
(`python_logs` in dagster.yaml). They are masked before they get there, so every handler sees the masked form. Loggers of
Dagster and of web servers are left as they are.

Field names: correlation_id, connection, feed, endpoint, status_code, retry_count, cursor_position, payload_hash,
idempotency_key, rejection_reason.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.stdlib import BoundLogger, LoggerFactory, ProcessorFormatter
from structlog.typing import WrappedLogger

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.logger import EVENT, FIRST, PROCESSORS, SHARED, TREE, as_json, masked

TRANSPORT = ("aiohttp", "httpx", "httpcore")
"""Libraries whose lines would name URLs with their parameters: only their warnings are wanted, in our form."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def to_json(logger: WrappedLogger, method: str, event: MutableMapping[str, Any]) -> str:
    """Renderer: one line, the fields everybody looks for first."""
    ordered = {name: event[name] for name in FIRST if name in event}
    return as_json({**ordered, **event})


class JsonLines(logging.Formatter):
    """Our records as they were masked; records of other code rendered by structlog and masked here."""

    def __init__(self) -> None:
        super().__init__()
        self._foreign = ProcessorFormatter(
            processors=[ProcessorFormatter.remove_processors_meta, masked, to_json],
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *SHARED],
            keep_exc_info=False,
        )

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, EVENT, None)
        if isinstance(event, dict):
            return to_json(None, record.levelname, event)
        return self._foreign.format(record)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is when the line is written: Dagster and test runners exchange it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonLines())

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the stream is always sys.stderr")


def configure(*, level: str = "INFO") -> None:
    """Set up logging of this process. May be called again: the level changes, nothing is added twice.

    Raises ConfigurationError for an unknown level.
    """
    wanted = level.strip().upper()
    if wanted not in LEVELS:
        raise ConfigurationError(f"log level {level!r} is unknown; SYNC_LOG_LEVEL must be one of {', '.join(LEVELS)}")
    structlog.configure(
        processors=list(PROCESSORS),
        wrapper_class=BoundLogger,
        logger_factory=LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    for name in (TREE, *TRANSPORT):
        logger = logging.getLogger(name)
        threshold = logging.getLevelNamesMapping()[wanted]
        if name != TREE:
            threshold = max(logging.WARNING, threshold)
        logger.setLevel(threshold)
        logger.propagate = False
        handlers = [handler for handler in logger.handlers if isinstance(handler, StderrHandler)]
        if not handlers:
            handlers = [StderrHandler()]
            logger.addHandler(handlers[0])
        # On the handler as well: Dagster lowers the logger's level for its run log, and stderr stays as quiet as asked.
        handlers[0].setLevel(threshold)


def wanted_level(default: str = "INFO", env: Mapping[str, str] = os.environ) -> str:
    """SYNC_LOG_LEVEL, or `default`."""
    return env.get("SYNC_LOG_LEVEL", "").strip() or default
