"""Expectations that may take a while to come true: looked at again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from registry.contract.report import Observation
from sandbox.probes.attempt import Answer, Attempting
from sandbox.probes.base import View, retry_delay


@dataclass(slots=True)
class RetriedProbe(Attempting):
    """Tries a look until it is met or ``within_seconds`` have passed."""

    tells_ready: ClassVar[bool] = True
    expectation: str
    look: Callable[[int], Callable[[], Answer]]
    """Makes the look, from the process id of the command."""
    within_seconds: float
    attempt_seconds: float
    """What one look may take."""
    _next_at: float = field(default=0.0, init=False)
    _last: Answer = field(default_factory=lambda: Answer(None, "not tried"), init=False)

    def poll(self, view: View) -> Observation | None:
        """One attempt at a time; the last answer decides when time is up."""
        if (answer := self._answered()) is not None:
            # The last look has less time than those before it, and may not know what they knew.
            if not answer.timed_out or self._last.met is None:
                self._last = answer
            self._next_at = view.seconds + retry_delay(self._attempts)
            if answer.met:
                return self._observation(True, answer.seen)
        if view.ending is not None:
            # The command is gone, and so is whatever could have answered.
            return self._observation(False, f"{view.ending}; before: {self._last.seen}")
        if view.over:
            return self._observation(self._last.met, f"{view.over}; before: {self._last.seen}")
        if self._attempt is None and view.seconds >= self.within_seconds and self._attempts:
            return self._observation(self._last.met, self._last.seen)
        if self._attempt is None and view.seconds >= self._next_at:
            left = max(0.5, self.within_seconds - view.seconds)
            timeout = min(self.attempt_seconds, left)
            self._begin(self.look(view.pid), timeout_seconds=timeout)
        return None

    def _observation(self, met: bool | None, seen: str) -> Observation:
        return Observation(expectation=self.expectation[:300], seen=seen[:2000], met=met)
