"""Commands of a run spec that are run inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from registry.contract.expectations import ExecExpectation
from sandbox.probes.attempt import Answer
from sandbox.probes.base import lines_pattern
from sandbox.probes.inside import Exec, NotRun, run_inside
from sandbox.probes.retried import RetriedProbe
from sandbox.runtimes.outcome import why_not_created


def exec_probe(
    expected: ExecExpectation,
    process: Mapping[str, object],
    *,
    execute: Exec,
    excuse: Callable[[], str | None],
    within_seconds: float,
) -> RetriedProbe:
    """The command ends with the code, and with output that matches. ``process`` is the run's own but for its
    working folder, ``/``: another of the running image could lead elsewhere by now."""
    look = _look(expected, {**process, "args": list(expected.command)}, execute)
    return RetriedProbe(
        f"{expected.in_words()} within {within_seconds:g} s",
        lambda _: look,
        within_seconds=within_seconds,
        attempt_seconds=within_seconds,
        excuse=excuse,
    )


def _look(expected: ExecExpectation, process: Mapping[str, object], execute: Exec) -> Callable[[], Answer]:
    pattern = None if expected.match is None else lines_pattern(expected.match)

    def look() -> Answer:
        done = run_inside(execute, process)
        if isinstance(done, NotRun):
            why = why_not_created(done.why)
            if why is not None:
                return Answer(False, f"it cannot be run: {why}")
            return Answer(None, f"it could not be started: {done.why}"[:500])
        if done.exit_code != expected.exit:
            return Answer(False, str(done))
        if pattern is not None and not pattern.search(done.output):
            return Answer(False, f"{done}, but its output does not match")
        return Answer(True, str(done))

    return look
