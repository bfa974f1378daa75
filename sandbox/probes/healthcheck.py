"""The image's own HEALTHCHECK: its command, run inside under every restriction of the run.

Docker's meaning: healthy at the first success; unhealthy after ``retries`` failures in a row, ``interval``
apart, none of them within the start period. We also try sooner, and a success counts whenever it comes; a
failure between the intervals does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from registry.contract.report import Observation
from registry.oci.imageconfig import Healthcheck
from sandbox.probes.attempt import Answer, Attempting
from sandbox.probes.base import View
from sandbox.probes.inside import Exec, NotRun, run_inside

_INTERVAL_SECONDS, _TIMEOUT_SECONDS, _RETRIES = 30.0, 30.0, 3  # Docker's defaults
_EXPECTATION = "the image's HEALTHCHECK succeeds"
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class NoHealthcheck:
    """The image was to have a HEALTHCHECK, and has none."""

    tells_ready: ClassVar[bool] = False

    def poll(self, view: View) -> Observation | None:
        """Decided from the start."""
        del view
        return Observation(expectation=_EXPECTATION, seen="the image has none", met=False)

    def children(self) -> tuple[int, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing was started."""


@dataclass(slots=True)
class HealthcheckProbe(Attempting):
    """Runs the command of ``healthcheck`` in ``process`` (the run's own, with another command).

    ``process`` starts in ``/``, and a shell then enters ``working_dir``; a command without a shell stays in
    ``/``. For the runtime to enter a folder that the running image can exchange was a way out
    (CVE-2024-21626).
    """

    tells_ready: ClassVar[bool] = True
    healthcheck: Healthcheck
    process: Mapping[str, object]
    working_dir: str
    exec: Exec
    _next_at: float = field(default=_FIRST_DELAY_SECONDS, init=False)
    _counted_at: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)
    _last: Answer = field(default_factory=lambda: Answer(None, "not tried"), init=False)

    def poll(self, view: View) -> Observation | None:
        """One attempt at a time."""
        if (answer := self._answered()) is not None:
            self._last = answer
            if answer.met:
                return self._observation(met=True, seen=answer.seen)
            self._count(answer, view.seconds)
            delay = min(_LAST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(self._attempts, 16))
            self._next_at = view.seconds + min(delay, self._interval)
            if self._failures >= (self.healthcheck.retries or _RETRIES):
                return self._observation(met=False, seen=f"unhealthy; last: {answer.seen}")
        if view.ending is not None:
            return self._observation(met=False, seen=f"{view.ending}; before: {self._last.seen}")
        if view.over:
            return self._observation(met=self._last.met, seen=f"{view.over}; last: {self._last.seen}")
        if self._attempt is None and view.seconds >= self._next_at:
            timeout = self.healthcheck.timeout_seconds or _TIMEOUT_SECONDS
            self._begin(self._look, timeout_seconds=timeout)
        return None

    @property
    def _interval(self) -> float:
        return self.healthcheck.interval_seconds or _INTERVAL_SECONDS

    def _count(self, answer: Answer, seconds: float) -> None:
        in_start_period = seconds < self.healthcheck.start_period_seconds
        if answer.met is None or in_start_period or seconds - self._counted_at < self._interval:
            return
        self._counted_at = seconds
        self._failures += 1

    def _observation(self, *, met: bool | None, seen: str) -> Observation:
        return Observation(expectation=_EXPECTATION, seen=seen[:2000], met=met)

    def _look(self) -> Answer:
        command = self.healthcheck.command
        arguments = list(command)
        if self.healthcheck.shell:
            # The shell enters the folder, not the runtime: by now the image may have put a link there.
            enter = 'cd -- "$0" && exec /bin/sh -c "$1"'
            arguments = ["/bin/sh", "-c", enter, self.working_dir, " ".join(command)]
        done = run_inside(self.exec, {**self.process, "args": arguments})
        if isinstance(done, NotRun):
            return Answer(None, f"the HEALTHCHECK could not be started: {done.why}"[:500])
        return Answer(done.exit_code == 0, str(done))
