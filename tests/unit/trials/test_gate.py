"""The gate's table, cell by cell, as ARCHITECTURE.md 4 has it."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

from registry.trials.gate import (
    Admit,
    AdmitEarlier,
    AdmitWithWarning,
    EffectiveState,
    Gate,
    Question,
    Refuse,
    Wait,
    decide,
)

YES, HEADER, EARLIER, WAIT, NO = Admit, AdmitWithWarning, AdmitEarlier, Wait, Refuse
GATES = ("off", "warn", "enforce", "hold")
TABLE = {
    # state: (off, warn, enforce, hold), for who may only read; hold: by a tag that was admitted before
    "pass": (YES, YES, YES, YES),
    "warn": (YES, YES, YES, YES),
    "not-applicable": (YES, YES, YES, YES),
    "grandfathered": (YES, YES, YES, YES),
    "expired": (YES, HEADER, YES, YES),
    "pending": (YES, HEADER, WAIT, EARLIER),
    "fail": (YES, HEADER, NO, EARLIER),
    "error": (YES, HEADER, NO, EARLIER),
    "untried": (YES, HEADER, NO, EARLIER),
    "unsupported": (YES, HEADER, NO, EARLIER),
    "blocked": (NO, NO, NO, NO),
}
CELLS = [
    (state, gate, answer)
    for state, answers in TABLE.items()
    for gate, answer in zip(GATES, answers, strict=True)
]
EARLIER_DIGEST = "sha256:bb"


def question(state: str, gate: str, **more: Any) -> Question:
    usual = {"can_retry": True, "earlier": EARLIER_DIGEST if gate == "hold" else ""}
    return Question(  # type: ignore[arg-type]
        gate=gate, state=state, subject="team/app@sha256:aa", reason="because", **(usual | more)
    )


def opened(answer: type, state: str) -> type:
    """What somebody gets who is let past a verdict, in the place of ``answer``."""
    return YES if answer in (WAIT, EARLIER) or (answer is NO and state != "blocked") else answer


def test_the_table_has_every_state_and_every_gate() -> None:
    assert set(TABLE) == set(get_args(EffectiveState))
    assert {gate for _, gate, _ in CELLS} == set(get_args(Gate))


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_readers(state: str, gate: str, answer: type) -> None:
    assert type(decide(question(state, gate))) is answer


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_who_may_push_reads_all_but_blocked(state: str, gate: str, answer: type) -> None:
    assert type(decide(question(state, gate, may_push=True))) is opened(answer, state)


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_referrers_are_readable_unless_blocked(state: str, gate: str, answer: type) -> None:
    assert type(decide(question(state, gate, referrer=True))) is opened(answer, state)


@pytest.mark.parametrize(("state", "gate"), [(state, gate) for state, gate, _ in CELLS])
def test_the_worker_of_the_lease_reads_all_but_blocked(state: str, gate: str) -> None:
    assert type(decide(question(state, gate, holds_lease=True))) is (NO if state == "blocked" else YES)


@pytest.mark.parametrize("gate", ["warn", "enforce", "hold"])
def test_expired_and_not_to_be_tried_again_is_said_and_never_refused(gate: str) -> None:
    decision = decide(question("expired", gate, can_retry=False))
    assert isinstance(decision, AdmitWithWarning)
    assert "too old, and no worker of this registry can try it again" in decision.text


@pytest.mark.parametrize(("state", "gate"), [(state, gate) for state, gate, _ in CELLS])
def test_hold_is_enforce_where_a_tag_has_no_earlier_image_or_none_was_asked_for(
    state: str, gate: str
) -> None:
    if gate == "hold":
        assert type(decide(question(state, "hold", earlier=""))) is type(decide(question(state, "enforce")))
    else:
        assert decide(question(state, gate, earlier=EARLIER_DIGEST)) == decide(question(state, gate))


def test_a_held_tag_says_what_it_holds_back_and_where_it_stays() -> None:
    decision = decide(question("fail", "hold"))
    assert isinstance(decision, AdmitEarlier)
    assert decision.text == (
        "team/app@sha256:aa failed its trial: because; until it is admitted, the tag stays at sha256:bb"
    )


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
