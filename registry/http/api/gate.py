"""``/api/v1/gate``: what the gate makes of an image, and what people tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from registry.auth.policy import decide as decide_access
from registry.content.explaining import account_in_question
from registry.errors import ManifestUnknownError, NameUnknownError, NotFoundError, RequestInvalidError
from registry.http.api.images import Image, ImageQuery, find_image, named
from registry.http.api.routes import Call, Route
from registry.trials import blocking
from registry.trials.admission import explain_manifest
from registry.trials.gate import (
    Admit,
    AdmitEarlier,
    AdmitWithWarning,
    Decision,
    EffectiveState,
    Gate,
    Refuse,
    Wait,
)

REASON_MAX = 500


class Block(Image):
    """An image to block, and why: everybody who is refused reads it."""

    reason: str = Field(json_schema_extra={"minLength": 1, "maxLength": REASON_MAX})


class ExplainQuery(ImageQuery):
    """Which image, and who pulls it."""

    actor: str | None = Field(
        default=None,
        description="Who pulls it, if not the caller: a user, a robot, or `anonymous`.",
        examples=["alice"],
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the gate makes of an image. ``digest`` is that of the image as it was pushed, ``served`` of what
    ``actor`` gets: null where that is nothing. ``sentence`` is what he is told."""

    image: str
    actor: str
    digest: str
    served: str | None
    gate: Gate
    state: EffectiveState
    reason: str
    may_push: bool
    decision: Literal["admit", "admit-with-warning", "admit-earlier", "wait", "refuse"]
    sentence: str
    explain: str


async def explain(call: Call, query: ExplainQuery) -> Explanation:
    """What the gate says to the caller, or to somebody else, about an image, and why.

    About somebody else may ask an owner of the repository, an administrator or an auditor; what his tokens
    leave him is not looked at.
    """
    repository, manifest, tag = await find_image(call, named(query.image, query.tag, query.digest), "pull")
    services, reader = call.services, call.actor
    if query.actor is not None:
        reader = await account_in_question(
            services.database, caller=call.actor, account=query.actor, target=repository.name
        )
    question, decision = await explain_manifest(
        services.database,
        services.settings,
        actor=reader,
        repository=repository,
        manifest=manifest,
        tag=tag,
    )
    access = decide_access(reader, "pull", repository.name, repository.visibility)
    if not access.allowed:
        decision = Refuse(
            access.reason, "who may not pull from the repository does not get as far as the gate"
        )
    return Explanation(
        image=repository.name,
        actor=reader.shown,
        digest=str(manifest.digest),
        served=_served(decision, str(manifest.digest), question.earlier),
        gate=question.gate,
        state=question.state,
        reason=question.reason,
        may_push=question.may_push,
        decision=_word(decision),
        sentence=_sentence(decision),
        explain=decision.explain,
    )


async def block(call: Call, body: Block) -> None:
    """Refuse an image to everybody, whatever its verdict."""
    if not body.reason.strip() or not body.reason.isprintable() or len(body.reason) > REASON_MAX:
        raise RequestInvalidError(f"reason: one line of 1 to {REASON_MAX} characters")
    await _set_block(call, body.image, body.reason)


async def unblock(call: Call, body: Image) -> None:
    """Let an image be what its verdict makes it."""
    await _set_block(call, body.image, None)


async def _set_block(call: Call, image: str, reason: str | None) -> None:
    repository, manifest, _ = await find_image(call, image, "configure")
    await blocking.set_block(
        call.services.database,
        repository_id=repository.id,
        repository=repository.name,
        digest=str(manifest.digest),
        reason=reason,
        actor=call.actor,
    )


def _word(
    decision: Decision,
) -> Literal["admit", "admit-with-warning", "admit-earlier", "wait", "refuse"]:
    match decision:
        case Admit():
            return "admit"
        case AdmitWithWarning():
            return "admit-with-warning"
        case AdmitEarlier():
            return "admit-earlier"
        case Wait():
            return "wait"
        case Refuse():
            return "refuse"


def _served(decision: Decision, pushed: str, earlier: str) -> str | None:
    match decision:
        case Admit() | AdmitWithWarning():
            return pushed
        case AdmitEarlier():
            return earlier
        case Wait() | Refuse():
            return None


def _sentence(decision: Decision) -> str:
    match decision:
        case Admit():
            return ""
        case AdmitWithWarning(text=text) | AdmitEarlier(text=text):
            return text
        case Wait(then=refusal) | (Refuse() as refusal):
            return refusal.sentence


_GONE = (NotFoundError, NameUnknownError, ManifestUnknownError)
ROUTES = (
    Route("GET", "/gate", "anyone", explain, errors=_GONE),
    Route("POST", "/gate/block", "anyone", block, errors=_GONE),
    Route("POST", "/gate/unblock", "anyone", unblock, errors=_GONE),
)
