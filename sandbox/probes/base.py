"""What every probe has in common: it is asked again and again until it has decided.

A probe that could not look says so (``met`` is null); it never turns that into "not met".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from registry.contract.expectations import compiled
from registry.contract.report import Observation

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 0.5
# Tab, newline, return and escape are what terminals are written to with.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Ending:
    """How the command ended: one of the two is set."""

    exit_code: int | None
    signal: int | None

    def __str__(self) -> str:
        return f"exit code {self.exit_code}" if self.signal is None else f"ended by signal {self.signal}"


@dataclass(frozen=True, slots=True)
class View:
    """What can be seen of a run at one moment."""

    seconds: float
    """Since the command was started."""
    pid: int
    """Of the command, on the host; valid only while ``ending`` is not set."""
    ending: Ending | None
    over: str
    """Empty while the run goes on; else why nothing more will be seen."""
    log: Callable[[], bytearray]
    """The output so far."""
    left: Callable[[], float] = lambda: math.inf
    """Seconds that looks may still take now, all of them together."""


class Probe(Protocol):
    """One expectation being looked at."""

    @property
    def tells_ready(self) -> bool:
        """Whether a command that meets it is ready for its work."""
        ...

    def poll(self, view: View) -> Observation | None:
        """Decide, or ``None`` for not yet. With ``view.over`` set it must decide. Does not block."""
        ...

    def children(self) -> tuple[int, ...]:
        """Process ids of children that the probe waits for itself."""
        ...

    def close(self) -> None:
        """End whatever the probe has started."""
        ...


def plain(text: str) -> str:
    """What an image wrote, without the control characters that no report can hold (a NUL, say)."""
    return _CONTROL.sub("\ufffd", text)


def lines_pattern(pattern: str) -> Any:
    """The RE2 pattern for text of several lines: ``^`` and ``$`` are the ends of each."""
    return compiled(f"(?m){pattern}")


def retry_delay(attempts: int) -> float:
    """Seconds until the next attempt: quick at first, then steady."""
    return min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts, 16))
