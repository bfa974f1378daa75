"""Logs: one JSON object (or one plain line) per event on stderr, libraries' lines included.

Whoever logs names what happened and passes values by name. Credentials are never passed: no header, no body,
no query string.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO, cast

import structlog
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from structlog.typing import Processor

    from registry.settings import Settings


class _Stream:
    """stderr; a line that finds no room there is lost, and keeps nobody from pulling."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure_logs(settings: Settings) -> None:
    """Send every log line of this process to stderr in the form and from the level that the settings say."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        # Never its pretty tracebacks: they show local variables, and some of those are secrets.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Stream())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_Stream())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_calm)
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)


def _calm(record: logging.LogRecord) -> bool:
    """Anybody can send what is no HTTP: one line tells it, where aiohttp would log its own stack."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = f"not HTTP from {record.args!r}: {type(error).__name__}", ()
        record.exc_info = record.exc_text = None
    return True
