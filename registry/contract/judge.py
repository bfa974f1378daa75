"""From a report to a verdict: one pure function, used by the registry and by ``seatrial run``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from registry.contract.asked import Asked
from registry.contract.isolation import why_not_isolated
from registry.contract.report import Observation, Report, Run

Verdict = Literal["pass", "warn", "fail", "error"]
_WORST_FIRST: tuple[Verdict, ...] = ("error", "fail", "warn", "pass")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and, in one sentence, why. ``flaky`` is how many attempts failed before one passed."""

    verdict: Verdict
    reason: str
    flaky: int = 0


def judge(report: Report, *, required: Collection[str] = (), asked: Sequence[Asked] = ()) -> Judgement:
    """What a report amounts to, where ``required`` mechanisms were demanded and ``asked`` are the cases that
    it must hold. Unknown is never ``pass``.

    ``error`` where something could not be looked at or nothing was run; ``fail`` where an expectation was not
    met; ``warn`` where all were met but the operator let the run go without a promised isolation, one of the
    run's processes was killed for want of memory, or it took more than one attempt; else ``pass``.
    """
    if report.error is not None:
        return Judgement("error", f"{report.error.reason}: {report.error.message}")
    lacking = why_not_isolated(report.mechanisms, required)
    if lacking is not None:
        return Judgement("error", f"isolation-missing: {lacking}")
    if not any(run.observations for run in report.runs):
        return Judgement("error", "the worker reported no observation, so nothing is known")
    cases = [_case(one, report.runs) for one in _all_of(asked, report.runs)]
    for met in (False, None):
        bad = [case for case in cases if case.met is met]
        if bad:
            others = f" (and case {', '.join(case.name for case in bad[1:])})" if bad[1:] else ""
            return Judgement("error" if met is None else "fail", f"{bad[0].words}{others}")
    flaky = sum(case.failed_before for case in cases)
    met_words = f"{report.tested}; seen: {'; '.join(case.words for case in cases)}"
    if report.downgrades:
        return Judgement("warn", f"run without {', '.join(report.downgrades)}: {met_words}", flaky)
    if any(run.oom_killed for run in report.runs):
        # Its own answer may hide it: a server that starts its workers anew, a shell that goes on.
        return Judgement("warn", f"a process of the run was killed for want of memory: {met_words}", flaky)
    if flaky:
        times = "once" if flaky == 1 else f"{flaky} times"
        return Judgement("warn", f"flaky: it failed {times} before it passed: {met_words}", flaky)
    return Judgement("pass", met_words)


def is_settled(asked: Asked, runs: Sequence[Run]) -> bool:
    """Whether no further attempt could change what these runs of a case amount to."""
    decisive = asked.any_is_enough  # one that passes, or else one that fails
    return len(runs) >= asked.attempts or decisive in [run.met() for run in runs]


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    met: bool | None
    words: str
    failed_before: int = 0


def _all_of(asked: Sequence[Asked], runs: Sequence[Run]) -> Sequence[Asked]:
    """What was asked for, and what a worker reported beside that."""
    named = {one.case for one in asked}
    more = dict.fromkeys(run.case or "" for run in runs if (run.case or "") not in named)
    return (*asked, *(Asked(case, any_is_enough=False) for case in more))


def _case(asked: Asked, all_runs: Sequence[Run]) -> _Case:
    runs = [run for run in all_runs if (run.case or "") == asked.case]
    name = asked.case or "the only case"
    said = f"case {asked.case}: " if asked.case else ""
    outcomes = [run.met() for run in runs]
    if asked.any_is_enough and asked.attempts > 1 and True in outcomes:
        at = outcomes.index(True)
        return _Case(name, met=True, words=said + _seen(runs[at]), failed_before=outcomes[:at].count(False))
    enough = 1 if asked.any_is_enough else asked.attempts
    if outcomes and outcomes.count(True) == len(outcomes) >= enough:
        return _Case(name, met=True, words=said + "; ".join(_seen(run) for run in runs))
    # Of attempts of which one would have been enough, one that is unknown might have been it.
    rules = (None, False) if asked.any_is_enough and asked.attempts > 1 else (False, None)
    for met in rules:
        if met in outcomes:
            words = _missed([o for run in runs if run.met() is met for o in run.observations if o.met is met])
            return _Case(name, met=met, words=said + _attempt(asked, runs, outcomes.index(met)) + words)
    return _Case(name, met=None, words=f"{said}the worker did not run it as often as it was asked to")


def _attempt(asked: Asked, runs: Sequence[Run], at: int) -> str:
    return f"attempt {runs[at].attempt or at + 1} of {asked.attempts}: " if asked.attempts > 1 else ""


def _seen(run: Run) -> str:
    return "; ".join(one.seen for one in run.observations)


def _missed(observations: Sequence[Observation]) -> str:
    if not observations:
        return "the worker reported no observation, so nothing is known"
    others = f" (and {len(observations) - 1} more)" if observations[1:] else ""
    return f"expected: {observations[0].expectation}; seen: {observations[0].seen}{others}"


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """The judgement that decides for an index: the worst of its parts.

    Raises:
        ValueError: there is none.
    """
    if not judgements:
        raise ValueError("no judgement to choose from")
    return min(judgements, key=lambda judgement: _WORST_FIRST.index(judgement.verdict))
