"""When something is due that comes again and again: every so many hours, or each day at a time of UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from registry.errors import RequestInvalidError

HOURS_MAX = 24 * 366
_DAY = timedelta(days=1)
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def parse_time(text: str) -> int:
    """The minutes after midnight of a time of day, ``HH:MM``.

    Raises:
        RequestInvalidError: none of that form.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise RequestInvalidError(f"at: {text[:80]!r} is no time of day such as 02:30")
    return int(match[1]) * 60 + int(match[2])


def following(due: datetime, now: datetime, *, every_hours: int | None, at_minute: int | None) -> datetime:
    """When it is due next after ``now``; what was missed meanwhile is not made up for."""
    if at_minute is not None:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        today = midnight + timedelta(minutes=at_minute)
        return today if today > now else today + _DAY
    every = timedelta(hours=every_hours or 1)
    return due + ((now - due) // every + 1) * every
