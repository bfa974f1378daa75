"""Durations as people type them: ``90s``, ``30m``, ``12h``, ``7d``."""

from __future__ import annotations

import re
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
