"""The gate: one pure function from the state of an image and who reads it to what happens (ARCHITECTURE 4).

It decides for tag, digest, HEAD, blob and mount alike, and each answer carries its reasoning for
``seatrial gate explain``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from registry.settings import Gate

EffectiveState = Literal[
    "pass",
    "warn",
    "not-applicable",
    "grandfathered",
    "expired",
    "pending",
    "fail",
    "error",
    "untried",
    "unsupported",
    "unsigned",
    "blocked",
]
Word = Literal["admit", "admit-with-warning", "admit-earlier", "wait", "refuse"]
"""What a decision is called."""
ADMITTED: frozenset[EffectiveState] = frozenset({"pass", "warn", "not-applicable", "grandfathered"})
RETRY_AFTER_SECONDS = 15
_SENTENCES: dict[EffectiveState, str] = {
    "expired": "the verdict on {subject} is too old, and no worker of this registry can try it again",
    "pending": "{subject} is still being tried",
    "fail": "{subject} failed its trial",
    "error": "{subject} could not be tried",
    "untried": "{subject} was never tried",
    "unsupported": "{subject} is for a platform that no worker runs",
    "unsigned": "{subject} lacks a signature that is required",
    "blocked": "{subject} is blocked",
}


@dataclass(frozen=True, slots=True)
class Question:
    """All that the gate looks at. ``subject`` names the image in sentences, ``reason`` is why its state."""

    gate: Gate
    state: EffectiveState
    subject: str
    reason: str = ""
    may_push: bool = False
    """Whether the reader's credential may push to the repository, or start trials in it."""
    holds_lease: bool = False
    """Whether the reader is the worker that holds the live lease of this very image."""
    referrer: bool = False
    """Whether this reads a referrer that nobody can run: the reason of a verdict must be readable."""
    can_retry: bool = False
    """Whether an expired image can be tried again."""
    kept: Literal["", "keep", "warn"] = ""
    """How the repository lets pass an image that had passed and has turned bad, if it does."""
    kept_until: str = ""
    """Until when, if not for ever."""
    waiver: str = ""
    """Names the waiver that lets this image in this state pass, if there is one."""
    paused: str = ""
    """Says that the gate only warns for a while, and why, if it is paused."""
    unsigned: str = ""
    """Which signature is required of the image that it lacks, if one is."""
    earlier: str = ""
    """Where a tag is read: the digest of the last image of it that is admitted, if there is one."""


@dataclass(frozen=True, slots=True)
class Admit:
    """The image may be read."""

    word: ClassVar[Word] = "admit"
    sentence: ClassVar[str] = ""
    explain: str


@dataclass(frozen=True, slots=True)
class AdmitWithWarning:
    """The image may be read, with ``sentence`` as a ``Warning`` header."""

    word: ClassVar[Word] = "admit-with-warning"
    sentence: str
    explain: str


@dataclass(frozen=True, slots=True)
class AdmitEarlier:
    """The tag is read as if it had not been moved yet: its last admitted image, with ``sentence`` as a
    ``Warning`` header."""

    word: ClassVar[Word] = "admit-earlier"
    sentence: str
    explain: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The image may not be read; ``retry_after_seconds`` where waiting could help."""

    word: ClassVar[Word] = "refuse"
    sentence: str
    explain: str
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A verdict is on its way: look again for a while, and then do ``then``."""

    word: ClassVar[Word] = "wait"
    then: Refuse
    explain: str

    @property
    def sentence(self) -> str:
        """That of the refusal."""
        return self.then.sentence


Decision = Admit | AdmitWithWarning | AdmitEarlier | Wait | Refuse


def decide(question: Question) -> Decision:
    """Whether the image may be read, exactly by the table."""
    return _by_state(as_decided(question))


def as_decided(question: Question) -> Question:
    """The question that the table is asked: what would be let pass and lacks a signature is unsigned, since
    whatever lets an image pass, a waiver too, is no signature."""
    if not question.unsigned or not isinstance(_by_state(question), Admit | AdmitWithWarning):
        return question
    return replace(question, state="unsigned", reason=question.unsigned, waiver="", kept="", kept_until="")


def _by_state(question: Question) -> Decision:
    sentence = _sentence(question)
    if question.state == "blocked":
        return Refuse(sentence, "a person blocked the image, and that is above everything")
    if why := _why_admitted(question):
        return Admit(why)
    if question.gate == "warn":
        return AdmitWithWarning(sentence, f"the gate only warns of the state {question.state}")
    return _let_pass(question, sentence) or _held_back(question, sentence)


def _why_admitted(question: Question) -> str:
    """Why the image is read without a word; empty where it is not."""
    state = question.state
    if question.holds_lease:
        return "the reader is the worker that tries this image"
    if state in ADMITTED:
        return f"the state {state} is admitted by every gate"
    if question.gate == "off":
        return f"the gate is off, so the state {state} does not matter"
    if question.waiver:
        return f"the state {state} is waived by {question.waiver}"
    if question.gate == "warn":
        return ""
    if question.may_push:
        return f"the state {state} is refused to readers, but who may push reads what was pushed"
    if question.referrer:
        return "referrers are readable to whoever may read the repository"
    if question.kept == "keep":
        return f"the state is {state}, but the image had passed, and the repository keeps those"
    if state == "expired" and question.can_retry:
        return "the verdict is too old, but holds until the image has been tried again"
    return ""


def _let_pass(question: Question, sentence: str) -> AdmitWithWarning | None:
    """What lets pass under a gate that decides, for a while and with a word."""
    state = question.state
    if state == "expired":
        # Else a registry that loses its workers would refuse one image after the other.
        return AdmitWithWarning(sentence, "the verdict is too old, but holds as long as nobody can try again")
    if question.kept == "warn":
        until = f", and is let pass until {question.kept_until}" if question.kept_until else ""
        said = f"had passed before{until}"
        return AdmitWithWarning(f"{sentence}; it {said}", f"the state is {state}, but the image {said}")
    if question.paused:
        said = f"{sentence}; {question.paused}"
        return AdmitWithWarning(said, f"the state is {state}, and {question.paused}")
    return None


def _held_back(question: Question, sentence: str) -> AdmitEarlier | Wait | Refuse:
    state, gate = question.state, question.gate
    verb = "holds" if gate == "hold" else "enforces"
    if gate == "hold" and question.earlier:
        return AdmitEarlier(
            f"{sentence}; until it is admitted, the tag stays at {question.earlier}",
            f"the gate holds the tag and the state is {state}: readers get the last admitted image of it",
        )
    if state == "pending":
        refusal = Refuse(
            sentence,
            "there was still no verdict when the wait was over",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
        return Wait(refusal, f"the gate {verb} and the verdict is on its way")
    return Refuse(sentence, f"the gate {verb} and the state is {state}")


def _sentence(question: Question) -> str:
    if question.state not in _SENTENCES:
        return ""
    said = _SENTENCES[question.state].format(subject=question.subject)
    return f"{said}: {question.reason}" if question.reason else said
