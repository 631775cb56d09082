"""Logs: one wide event a line on standard error, as JSON where nobody watches. Never a secret, never a body."""

from __future__ import annotations

import logging
import sys

import structlog

from pipeline.errors import SettingsError
from pipeline.flow.deliver import Attempt, Verdict

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_log = structlog.get_logger()


def configure(level: str) -> None:
    """Set up this process's logs. Raises `SettingsError` for a level that there is not."""
    if level not in _LEVELS:
        raise SettingsError(f"PIPELINE_LOG_LEVEL={level!r}: write one of {', '.join(_LEVELS)}")
    watched = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            structlog.dev.ConsoleRenderer() if watched else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def log_attempt(attempt: Attempt) -> None:
    """One event for each attempt: at `info` where it did not deliver, at `debug` where it did."""
    say = _log.debug if attempt.verdict is Verdict.DELIVERED else _log.info
    say(
        "attempt",
        delivery=attempt.delivery,
        event_id=attempt.event,
        type=attempt.type,
        tenant=attempt.tenant,
        webhook=attempt.webhook,
        attempt=attempt.attempt,
        verdict=attempt.verdict.value,
        status=attempt.status_code,
        duration_ms=attempt.duration_ms,
        next=type(attempt.next).__name__.lower(),
    )
