"""What came of each expectation of a trial, as all formats tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from registry.trials.reading import PartView, RunView, TrialView

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

    @property
    def title(self) -> str:
        """Its name, with the attempt where there may be several."""
        return self.run.name if self.run.attempt is None else f"{self.run.name}, attempt {self.run.attempt}"


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """One part. ``problem`` says what its verdict is where no expectation does: unknown is never a pass."""

    part: PartView
    runs: Sequence[RunOutcome]
    problem: Outcome | None


def outcomes_of(trial: TrialView) -> Sequence[PartOutcome]:
    """The outcomes of a trial, part by part."""
    return [_of_part(part, [run for run in trial.runs if run.part == part.id]) for part in trial.parts]


def _of_part(part: PartView, runs: Sequence[RunView]) -> PartOutcome:
    passed = part.verdict in ("pass", "warn")
    told = [RunOutcome(run, [_outcome(one, passed=passed) for one in run.observations]) for run in runs]
    bad = any(one.result in ("missed", "unknown") for run in told for one in run.outcomes)
    return PartOutcome(part, told, None if passed or bad else _problem(part))


def _outcome(observation: Mapping[str, Any], *, passed: bool) -> Outcome:
    met = observation["met"]
    result: Result = "met" if met else "excused" if passed else "unknown" if met is None else "missed"
    return Outcome(str(observation["expectation"]), str(observation["seen"]), result)


def _problem(part: PartView) -> Outcome:
    if part.state != "done":
        return Outcome("there is a verdict", f"it is {part.state}", "unknown")
    if part.verdict == "unsupported":
        return Outcome("it is run on this platform", part.reason, "excused")
    return Outcome("the image can be judged", part.reason, "missed" if part.verdict == "fail" else "unknown")
