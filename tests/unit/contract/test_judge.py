"""From reports to verdicts; what is unknown is never ``pass``."""

from __future__ import annotations

from typing import Any

import pytest

from registry.contract import PROTOCOL_VERSION
from registry.contract.judge import Judgement, judge, worst
from registry.contract.report import Observation, Report, ReportError, Run


def run(*met: bool | None) -> Run:
    return Run(
        name="smoke",
        command=("/bin/true",),
        exit_code=0,
        reason="exited",
        seconds=0.1,
        log="",
        observations=tuple(
            Observation(expectation=f"expectation {number}", seen=f"sight {number}", met=one)
            for number, one in enumerate(met)
        ),
    )


def report(*runs: Run, **more: Any) -> Report:
    values = {
        "protocol": PROTOCOL_VERSION,
        "lease": "lease",
        "digest": "sha256:aa",
        "platform": "linux/amd64",
        "tested": "it works",
        "runtime": "runc 1",
        "runs": runs,
    }
    return Report(**(values | more))


def test_all_met_passes_and_says_what_was_tested_and_seen() -> None:
    assert judge(report(run(True, True))) == Judgement("pass", "it works; seen: sight 0; sight 1")


def test_a_missed_expectation_fails_and_is_named_first() -> None:
    judgement = judge(report(run(True, False, None, False)))
    assert judgement == Judgement("fail", "expected: expectation 1; seen: sight 1 (and 1 more)")


def test_what_could_not_be_looked_at_is_an_error() -> None:
    assert judge(report(run(True, None))) == Judgement("error", "expected: expectation 1; seen: sight 1")


@pytest.mark.parametrize("runs", [(), (run(),), (run(), run())])
def test_nothing_observed_is_an_error(runs: tuple[Run, ...]) -> None:
    assert judge(report(*runs)).verdict == "error"


def test_an_error_of_the_worker_wins_over_good_observations() -> None:
    problem = ReportError(reason="needs-capability", message="it wants CAP_SYS_ADMIN")
    judgement = judge(report(run(True), error=problem))
    assert judgement == Judgement("error", "needs-capability: it wants CAP_SYS_ADMIN")


def test_a_downgrade_warns_but_hides_no_failure() -> None:
    assert judge(report(run(True), downgrades=("seccomp",))) == Judgement(
        "warn", "run without seccomp: it works; seen: sight 0"
    )
    assert judge(report(run(False), downgrades=("seccomp",))).verdict == "fail"


@pytest.mark.parametrize(
    ("verdicts", "decides"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "warn"), "warn"),
        (("warn", "fail", "pass"), "fail"),
        (("fail", "error", "pass"), "error"),
    ],
)
def test_the_worst_part_decides(verdicts: tuple[Any, ...], decides: str) -> None:
    assert worst([Judgement(verdict, "") for verdict in verdicts]).verdict == decides


def test_there_is_no_worst_of_nothing() -> None:
    with pytest.raises(ValueError, match="no judgement"):
        worst([])


def test_a_process_killed_for_want_of_memory_warns_though_all_held() -> None:
    killed = run(True).model_copy(update={"oom_killed": True})
    judgement = judge(report(run(True), killed))
    assert (judgement.verdict, "want of memory" in judgement.reason) == ("warn", True)
    missed = run(False).model_copy(update={"oom_killed": True})
    assert judge(report(missed)).verdict == "fail"
