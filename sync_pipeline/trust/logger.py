"""Loggers that mask: an event is made harmless before the first handler sees it.

They go through the standard library's logging under `sync_pipeline.…`. What becomes of the lines (form, place, level) is
set up in telemetry.logs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import orjson
import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor, WrappedLogger

from sync_pipeline.trust.masking import Masker
from sync_pipeline.trust.values import revealed

TREE = "sync_pipeline"
"""Root of our loggers."""

EVENT = "sync_event"
"""Attribute of a log record that carries our masked event."""

FIRST = ("timestamp", "level", "logger", "event")


def masked(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Processor: the event without personal values, credentials and secrets this process has revealed."""
    return Masker(revealed()).event(event)


def as_record(logger: WrappedLogger, method: str, event: EventDict) -> tuple[tuple[str], Mapping[str, Any]]:
    """Last processor: the masked event as text for any handler, and whole for ours; never the exception itself."""
    fields = [f"{name}={_text(value)}" for name, value in event.items() if name not in FIRST]
    return (" ".join([str(event.get("event", "")), *fields]),), {"exc_info": None, "extra": {EVENT: event}}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """Compact JSON; what JSON does not know is shown by its repr."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode("utf-8")


SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    structlog.processors.UnicodeDecoder(),
)
PROCESSORS: tuple[Processor, ...] = (
    structlog.stdlib.filter_by_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.StackInfoRenderer(),
    *SHARED,
    masked,
    as_record,
)


def get_logger(name: str) -> BoundLogger:
    """A logger of ours. It masks and goes through standard logging even where `configure` was never called."""
    if name != TREE and not name.startswith(f"{TREE}."):
        raise ValueError(f"{name} is not below {TREE}: Dagster would not show its lines")
    wrapped = structlog.wrap_logger(
        logging.getLogger(name), processors=list(PROCESSORS), wrapper_class=BoundLogger, context_class=dict
    )
    return cast(BoundLogger, wrapped)
