"""From a report to a verdict: one pure function, used by the registry and by ``seatrial run``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from registry.contract.isolation import why_not_isolated
from registry.contract.report import Report

Verdict = Literal["pass", "warn", "fail", "error"]
_WORST_FIRST: tuple[Verdict, ...] = ("error", "fail", "warn", "pass")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and, in one sentence, why."""

    verdict: Verdict
    reason: str


def judge(report: Report, *, required: Collection[str] = ()) -> Judgement:
    """What a report amounts to, where ``required`` mechanisms were demanded. Unknown is never ``pass``.

    ``error`` where something could not be looked at or nothing was run; ``fail`` where an expectation was not
    met; ``warn`` where all were met but the operator let the run go without a promised isolation, or one of
    the run's processes was killed for want of memory; else ``pass``.
    """
    if report.error is not None:
        return Judgement("error", f"{report.error.reason}: {report.error.message}")
    lacking = why_not_isolated(report.mechanisms, required)
    if lacking is not None:
        return Judgement("error", f"isolation-missing: {lacking}")
    observations = [observation for run in report.runs for observation in run.observations]
    if not observations:
        return Judgement("error", "the worker reported no observation, so nothing is known")
    missed = [o for o in observations if o.met is False]
    if missed:
        return Judgement("fail", _sentence(missed[0].expectation, missed[0].seen, len(missed) - 1))
    unknown = [o for o in observations if o.met is None]
    if unknown:
        return Judgement("error", _sentence(unknown[0].expectation, unknown[0].seen, len(unknown) - 1))
    met = f"{report.tested}; seen: {'; '.join(o.seen for o in observations)}"
    if report.downgrades:
        return Judgement("warn", f"run without {', '.join(report.downgrades)}: {met}")
    if any(run.oom_killed for run in report.runs):
        # Its own answer may hide it: a server that starts its workers anew, a shell that goes on.
        return Judgement("warn", f"a process of the run was killed for want of memory: {met}")
    return Judgement("pass", met)


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """The judgement that decides for an index: the worst of its parts.

    Raises:
        ValueError: there is none.
    """
    if not judgements:
        raise ValueError("no judgement to choose from")
    return min(judgements, key=lambda judgement: _WORST_FIRST.index(judgement.verdict))


def _sentence(expectation: str, seen: str, more: int) -> str:
    others = f" (and {more} more)" if more else ""
    return f"expected: {expectation}; seen: {seen}{others}"
