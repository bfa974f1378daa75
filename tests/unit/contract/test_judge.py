"""From reports to verdicts; what is unknown is never ``pass``."""

from __future__ import annotations

from typing import Any

import pytest

from registry.contract import PROTOCOL_VERSION
from registry.contract.asked import Asked
from registry.contract.judge import Judgement, is_settled, judge, worst
from registry.contract.report import Observation, Report, ReportError, Run, dump_report


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


def test_a_registry_of_before_gets_a_reason_that_it_knows() -> None:
    problem = ReportError(reason="needs-writable-root", message="its files are read-only")
    said = report(run(False), error=problem)
    assert Report.model_validate_json(dump_report(said)) == said
    before = Report.model_validate_json(dump_report(said, news=False)).error
    assert before == ReportError(reason="needs-capability", message="its files are read-only")


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


def attempts(case: str | None, *each: bool | None) -> tuple[Run, ...]:
    return tuple(
        run(met).model_copy(update={"case": case, "attempt": number})
        for number, met in enumerate(each, start=1)
    )


@pytest.mark.parametrize(
    ("enough", "outcomes", "verdict", "flaky"),
    [
        ("any", (True,), "pass", 0),
        ("any", (False, True), "warn", 1),
        ("any", (False, False, True), "warn", 2),
        ("any", (None, True), "pass", 0),
        ("any", (False, False, False), "fail", 0),
        ("any", (False, None, False), "error", 0),
        ("all", (True, True, True), "pass", 0),
        ("all", (True, False), "fail", 0),
        ("all", (True, None, True), "error", 0),
        ("all", (True, True), "error", 0),
        ("all", (), "error", 0),
        ("any", (), "error", 0),
    ],
)
def test_attempts_at_a_case(enough: str, outcomes: tuple[bool | None, ...], verdict: str, flaky: int) -> None:
    asked = [Asked("web", 3, enough == "any"), Asked("other")]
    runs = (*attempts("web", *outcomes), *attempts("other", True))
    judgement = judge(report(*runs), asked=asked)
    assert (judgement.verdict, judgement.flaky) == (verdict, flaky)
    assert "case web: " in judgement.reason


def test_the_reason_names_case_and_attempt() -> None:
    asked = [Asked("a", 2), Asked("b"), Asked("c")]
    runs = (*attempts("a", False, False), *attempts("b", True), *attempts("c", False))
    assert judge(report(*runs), asked=asked) == Judgement(
        "fail",
        "case a: attempt 1 of 2: expected: expectation 0; seen: sight 0 (and 1 more) (and case c)",
    )
    flaky = judge(
        report(*attempts("a", False, True), *attempts("b", True), *attempts("c", True)), asked=asked
    )
    assert flaky == Judgement(
        "warn",
        "flaky: it failed once before it passed: it works; seen: case a: sight 0; case b: sight 0; "
        "case c: sight 0",
        1,
    )


def test_a_case_that_was_not_asked_for_must_hold_as_well() -> None:
    runs = (*attempts("a", True), *attempts("more", False))
    assert judge(report(*runs), asked=[Asked("a")]).verdict == "fail"


@pytest.mark.parametrize(
    ("asked", "outcomes", "settled"),
    [
        (Asked(), (), False),
        (Asked(), (False,), True),
        (Asked(attempts=3), (False,), False),
        (Asked(attempts=3), (False, None), False),
        (Asked(attempts=3), (False, True), True),
        (Asked(attempts=3, any_is_enough=False), (True,), False),
        (Asked(attempts=3, any_is_enough=False), (True, False), True),
        (Asked(attempts=3, any_is_enough=False), (True, None), False),
    ],
)
def test_no_attempt_is_made_in_vain(asked: Asked, outcomes: tuple[bool | None, ...], settled: bool) -> None:
    assert is_settled(asked, attempts(None, *outcomes)) is settled
