"""What became of a delivery, and when it is tried again: rules without a clock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

LOGGED = 8
"""So many of its attempts a delivery remembers, the last ones."""
ANSWER_BYTES = 2048
_RETRY_AFTER_MAX = 3600.0
_REST_FROM = 3
_REST_MAX = 300.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how often. Seconds; ``batch`` deliveries of a webhook are taken at once, of which
    ``at_once`` are on their way; a process works for ``webhooks`` of them. A delivery that failed
    ``attempts`` times is given up, which with these figures is after three days."""

    attempt_seconds: float = 10.0
    lease_seconds: float = 60.0
    poll_seconds: float = 1.0
    first_retry_seconds: float = 5.0
    last_retry_seconds: float = 3600.0
    disable_seconds: float = 3 * 24 * 3600.0
    attempts: int = 80
    batch: int = 64
    at_once: int = 8
    in_a_row: int = 16
    webhooks: int = 32


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what came of it: a status and the beginning of the answer, or why there is none."""

    at: str
    seconds: float
    status: int | None = None
    error: str | None = None
    answer: str | None = None
    retry_after: float | None = None

    @property
    def outcome(self) -> Literal["delivered", "failed", "gone"]:
        """Delivered with any 2xx; a redirect is not followed. ``gone``: the receiver wants nothing more."""
        if self.status is not None and 200 <= self.status < 300:
            return "delivered"
        return "gone" if self.status == HTTPStatus.GONE else "failed"


def explain_status(status: int) -> str | None:
    """What a log says of an answer that is no success."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed, give the address that it leads to"
    return f"answered {status}"


def retry_seconds(attempts: int, pace: Pace, *, jitter: float, asked: float | None = None) -> float:
    """How long to wait after so many attempts: twice as long each time, and up to a quarter more or less.

    ``jitter`` is between 0 and 1; ``asked`` is what the receiver's ``Retry-After`` says.
    """
    # Beyond 2**30 nothing grows any more.
    usual = min(pace.first_retry_seconds * (1 << min(attempts - 1, 30)), pace.last_retry_seconds)
    return max(usual * (0.75 + 0.5 * jitter), asked or 0.0)


def rest_seconds(failures: int, pace: Pace, *, jitter: float) -> float | None:
    """How long a webhook rests of which so many rounds failed altogether; ``None``: it goes on."""
    if failures < _REST_FROM:
        return None
    return min(retry_seconds(failures - _REST_FROM + 1, pace, jitter=jitter), _REST_MAX)


def parse_retry_after(headers: Mapping[str, str], status: int) -> float | None:
    """``Retry-After`` in seconds, an hour at most, where the status is one that has it; a date is not looked
    at."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    if status not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        return None
    return min(float(text), _RETRY_AFTER_MAX)


def logged(log: str, attempt: Attempt) -> str:
    """The log of a delivery with one more attempt."""
    kept = {name: value for name, value in asdict(attempt).items() if value is not None}
    return json.dumps([*json.loads(log), kept][-LOGGED:], separators=(",", ":"))


def is_overdue(since: datetime | None, now: datetime, seconds: float) -> bool:
    """Whether something has gone on for so long."""
    return since is not None and (now - since).total_seconds() >= seconds
