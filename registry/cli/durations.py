"""Durations as people type them, ``90s``, ``30m``, ``12h``, ``7d``, and times that are said by one."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from registry.errors import RequestInvalidError

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 24 * 3600})


def parse_duration_seconds(text: str) -> int:
    """Seconds of a duration.

    Raises:
        RequestInvalidError: not of that form, or nothing.
    """
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise RequestInvalidError(f"{text[:80]!r} is not a duration: a number and s, m, h or d, as in 12h")
    return int(match[1]) * _SECONDS[match[2]]


def parse_past(text: str) -> str:
    """A time as the API takes it, from a duration before now, or a day or time of UTC.

    Raises:
        RequestInvalidError: neither of them.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.now(UTC) - timedelta(seconds=_seconds_ago(text))
    return _told(at)


def parse_coming(text: str) -> str:
    """A time as the API takes it, from a duration after now, or a day or time of UTC.

    Raises:
        RequestInvalidError: neither of them.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.now(UTC) + timedelta(seconds=parse_duration_seconds(text))
    return _told(at)


def _told(at: datetime) -> str:
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _seconds_ago(text: str) -> int:
    try:
        return parse_duration_seconds(text)
    except RequestInvalidError:
        raise RequestInvalidError(
            f"{text[:80]!r} is no time: so long ago, as in 7d, or a day or time of UTC, as in 2026-01-31"
        ) from None
