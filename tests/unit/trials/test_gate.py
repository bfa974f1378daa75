"""The gate's table, cell by cell, as ARCHITECTURE.md 4 has it."""

from __future__ import annotations

import itertools
from dataclasses import replace
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
    "unsigned": (YES, HEADER, NO, EARLIER),
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
    assert "too old, and no worker of this registry can try it again" in decision.sentence


@pytest.mark.parametrize(("state", "gate"), [(state, gate) for state, gate, _ in CELLS])
def test_hold_is_enforce_where_a_tag_has_no_earlier_image_or_none_was_asked_for(
    state: str, gate: str
) -> None:
    if gate == "hold":
        assert type(decide(question(state, "hold", earlier=""))) is type(decide(question(state, "enforce")))
    else:
        assert decide(question(state, gate, earlier=EARLIER_DIGEST)) == decide(question(state, gate))


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_a_waiver_lets_pass_without_a_word_all_but_blocked(state: str, gate: str, answer: type) -> None:
    decision = decide(question(state, gate, waiver="waiver 7"))
    assert type(decision) is (NO if state == "blocked" else YES)
    if answer in (HEADER, EARLIER, WAIT):
        assert decision.explain == f"the state {state} is waived by waiver 7"


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_a_pause_makes_enforce_and_hold_warn(state: str, gate: str, answer: type) -> None:
    decision = decide(question(state, gate, paused="the gate of team/ is paused"))
    warned = dict(zip(GATES, TABLE[state], strict=True))["warn"]
    expected = warned if gate in ("enforce", "hold") and state != "expired" else answer
    assert type(decision) is expected
    if isinstance(decision, AdmitWithWarning) and gate != "warn":
        assert decision.sentence.endswith("because; the gate of team/ is paused")


@pytest.mark.parametrize(("state", "gate", "answer"), CELLS)
def test_what_passed_and_turned_bad_is_kept_or_warned_of(state: str, gate: str, answer: type) -> None:
    decides = gate in ("enforce", "hold") and answer in (NO, WAIT, EARLIER) and state != "blocked"
    assert type(decide(question(state, gate, kept="keep"))) is (YES if decides else answer)
    warned = decide(question(state, gate, kept="warn", kept_until="2026-01-01"))
    assert type(warned) is (HEADER if decides else answer)
    if decides:
        assert isinstance(warned, AdmitWithWarning)
        assert warned.sentence.endswith("because; it had passed before, and is let pass until 2026-01-01")


def test_a_held_tag_says_what_it_holds_back_and_where_it_stays() -> None:
    decision = decide(question("fail", "hold"))
    assert isinstance(decision, AdmitEarlier)
    assert decision.sentence == (
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


def test_nothing_that_lets_an_image_pass_is_a_signature() -> None:
    ways = (
        {"state": "pass"},
        {"state": "expired", "can_retry": True},
        {"state": "fail", "waiver": "waiver 1"},
        {"state": "fail", "kept": "keep"},
        {"state": "fail", "kept": "warn"},
    )
    for way in ways:
        question = Question(gate="enforce", subject="it", **way)  # type: ignore[arg-type]
        assert isinstance(decide(question), Admit | AdmitWithWarning), way
        unsigned = replace(question, unsigned="it must be signed by ann")
        refused = decide(unsigned)
        assert isinstance(refused, Refuse), way
        assert "must be signed by ann" in refused.sentence
        for exempt in ({"may_push": True}, {"holds_lease": True}, {"gate": "off"}):
            assert isinstance(decide(replace(unsigned, **exempt)), Admit), (way, exempt)
        assert isinstance(decide(replace(unsigned, gate="warn")), AdmitWithWarning)
