"""The gate's table, cell by cell, as ARCHITECTURE.md 4 has it."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from registry.trials.gate import (
    Admit,
    AdmitWithWarning,
    EffectiveState,
    Gate,
    Question,
    Refuse,
    Wait,
    decide,
)

YES, HEADER, WAIT, NO = Admit, AdmitWithWarning, Wait, Refuse
TABLE = {
    # state: (off, warn, enforce), for somebody who may only read
    "pass": (YES, YES, YES),
    "warn": (YES, YES, YES),
    "not-applicable": (YES, YES, YES),
    "grandfathered": (YES, YES, YES),
    "expired": (YES, HEADER, YES),
    "pending": (YES, HEADER, WAIT),
    "fail": (YES, HEADER, NO),
    "error": (YES, HEADER, NO),
    "untried": (YES, HEADER, NO),
    "unsupported": (YES, HEADER, NO),
    "blocked": (NO, NO, NO),
}
CELLS = [
    (state, gate, answer)
    for state, answers in TABLE.items()
    for gate, answer in zip(("off", "warn", "enforce"), answers, strict=True)
]


def question(state: str, gate: str, **more: bool) -> Question:
    return Question(  # type: ignore[arg-type]
        gate=gate, state=state, subject="team/app@sha256:aa", reason="because", **({"can_retry": True} | more)
    )


def test_the_table_has_every_state_and_every_gate() -> None:
    assert set(TABLE) == set(get_args(EffectiveState))
    assert {gate for _, gate, _ in CELLS} == set(get_args(Gate))


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_readers(state: str, gate: str, answer: type) -> None:
    assert type(decide(question(state, gate))) is answer


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_who_may_push_reads_all_but_blocked(state: str, gate: str, answer: type) -> None:
    got = type(decide(question(state, gate, may_push=True)))
    assert got is (YES if answer is WAIT or (answer is NO and state != "blocked") else answer)


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_referrers_are_readable_unless_blocked(state: str, gate: str, answer: type) -> None:
    got = type(decide(question(state, gate, referrer=True)))
    assert got is (YES if answer is WAIT or (answer is NO and state != "blocked") else answer)


@pytest.mark.parametrize(("state", "gate"), [(state, gate) for state, gate, _ in CELLS])
def test_the_worker_of_the_lease_reads_all_but_blocked(state: str, gate: str) -> None:
    assert type(decide(question(state, gate, holds_lease=True))) is (NO if state == "blocked" else YES)


def test_expired_and_not_to_be_tried_again_is_refused() -> None:
    assert isinstance(decide(question("expired", "enforce", can_retry=False)), Refuse)
    assert isinstance(decide(question("expired", "warn", can_retry=False)), AdmitWithWarning)
    assert isinstance(decide(question("expired", "off", can_retry=False)), Admit)


def test_a_refusal_names_the_image_and_the_reason() -> None:
    decision = decide(question("fail", "enforce"))
    assert isinstance(decision, Refuse)
    assert decision.sentence == "team/app@sha256:aa failed its trial: because"
    assert decision.retry_after_seconds is None


def test_pending_says_when_to_come_back() -> None:
    decision = decide(question("pending", "enforce"))
    assert isinstance(decision, Wait)
    assert decision.then.retry_after_seconds == 15
    assert decision.then.sentence == "team/app@sha256:aa is still being tried: because"


def test_every_answer_explains_itself() -> None:
    flags = [dict(zip(("may_push", "holds_lease", "referrer", "can_retry"), bits, strict=True))
             for bits in itertools.product((False, True), repeat=4)]  # fmt: skip
    for state, gate, _ in CELLS:
        for more in flags:
            assert decide(question(state, gate, **more)).explain
