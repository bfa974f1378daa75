"""What came of each expectation of a trial, as all formats tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from registry.trials.reading import PartView, RunView, TrialView
from registry.trials.scanalone import NOT_RUN

Result = Literal["met", "missed", "unknown", "excused"]
"""``excused``: an attempt failed, and a later one passed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation of one run."""

    expectation: str
    seen: str
    result: Result


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """One run with its expectations."""

    run: RunView
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """One part. ``problems`` say what its verdict is, and in the last part that of the trial, where no
    expectation does: unknown is never a pass."""

    part: PartView
    runs: Sequence[RunOutcome]
    problems: Sequence[Outcome]

    @property
    def is_bad(self) -> bool:
        """Whether anything in it was missed or is unknown."""
        told = (*(one for run in self.runs for one in run.outcomes), *self.problems)
        return any(one.result in ("missed", "unknown") for one in told)


def outcomes_of(trial: TrialView) -> Sequence[PartOutcome]:
    """The outcomes of a trial, part by part."""
    found = [_of_part(trial, part) for part in trial.parts or [_not_begun(trial)]]
    if trial.state == "done" and not _passed(trial) and not any(part.is_bad for part in found):
        # No platform is run, or the parts were asked again since and have other runs now.
        last = found[-1]
        found[-1] = replace(last, problems=[*last.problems, _unjudged(trial.verdict, trial.reason)])
    return found


def _not_begun(trial: TrialView) -> PartView:
    """What stands for the parts of a trial whose image is not here, or could not be copied."""
    return PartView(
        id=trial.id,
        digest=trial.digest,
        platform="any",
        state=trial.state,
        verdict=trial.verdict,
        reason=trial.reason,
        attempts=0,
        worker=None,
        record=None,
        flaky_attempts=0,
    )


def _of_part(trial: TrialView, part: PartView) -> PartOutcome:
    if part.scan_alone and part.state == "done" and part.verdict != "unsupported":
        result: Result = "met" if _passed(part) else "missed" if part.verdict == "fail" else "unknown"
        scanned = Outcome("its scan is whole, and nothing in it is refused", part.reason, result)
        return PartOutcome(part, (), (Outcome("it is run", NOT_RUN, "excused"), scanned))
    passed = _passed(part) or _passed(trial)
    told = [
        RunOutcome(run, [_outcome(one, passed=passed) for one in run.observations])
        for run in trial.runs
        if run.part == part.id
    ]
    asked_again = trial.state == "done" and part.state != "done"
    found = PartOutcome(part, told, ())
    if part.verdict == "unsupported" or not (passed or asked_again or found.is_bad):
        return replace(found, problems=[_problem(part)])
    return found


def _passed(judged: PartView | TrialView) -> bool:
    return judged.verdict in ("pass", "warn")


def _outcome(observation: Mapping[str, Any], *, passed: bool) -> Outcome:
    met = observation["met"]
    result: Result = "met" if met else "excused" if passed else "unknown" if met is None else "missed"
    return Outcome(str(observation["expectation"]), str(observation["seen"]), result)


def _problem(part: PartView) -> Outcome:
    if part.state != "done":
        return Outcome("there is a verdict", f"it is {part.state}", "unknown")
    if part.verdict == "unsupported":
        return Outcome("it is run on this platform", part.reason, "excused")
    return _unjudged(part.verdict, part.reason)


def _unjudged(verdict: str | None, reason: str) -> Outcome:
    return Outcome("the image can be judged", reason, "missed" if verdict == "fail" else "unknown")
