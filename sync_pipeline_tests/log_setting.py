"""Log events kept as they are given, from one logger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sync_pipeline.trust.logger import EVENT


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(getattr(record, EVENT))
        self.texts.append(record.getMessage())


@contextmanager
def keeping(name: str, level: int) -> Iterator[Kept]:
    """Those of the logger `name` from `level` on."""
    logger, handler = logging.getLogger(name), Kept()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)
