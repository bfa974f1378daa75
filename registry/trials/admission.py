"""Whether a manifest or a blob may be read: the gate, asked with what the database knows.

The access policy and the token service have been asked before, so a worker's lease is live; here the state of
images counts, and for a worker which image its lease is for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from math import inf

from registry.auth.actor import Actor
from registry.content import manifests as manifest_use
from registry.content.manifests import StoredManifest
from registry.content.repositories import Repository
from registry.db.engine import Database
from registry.oci.digest import Digest, parse_digest
from registry.settings import Settings
from registry.trials.asking import Answer, Reading, ask, state_of
from registry.trials.blobasking import decide_blob
from registry.trials.gate import (
    Admit,
    AdmitEarlier,
    AdmitWithWarning,
    Decision,
    Question,
    Refuse,
    Wait,
    as_decided,
)
from registry.trials.leased import is_leased, is_of_lease, not_of_lease
from registry.trials.refusing import refused, warning
from registry.trials.requests import try_again
from registry.trials.states import ImageState
from registry.trials.waiting import Waiters, looks


@dataclass(frozen=True, slots=True)
class Admission:
    """That content may be read, with these headers. ``until`` is how long that holds while no epoch moves
    (:func:`time.monotonic`)."""

    headers: Mapping[str, str]
    until: float


async def admit_manifest(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    repository: Repository,
    manifest: StoredManifest,
    tag: str | None,
    base_url: str,
    waiters: Waiters | None = None,
) -> tuple[StoredManifest, Admission]:
    """Let the manifest be read, or where ``tag`` names it and is held, the last admitted one of that tag;
    waits up to ``gate_wait_seconds`` for a pending verdict, if there is room among the ``waiters`` for who
    did not sign in. Without waiters the actor did.

    ``base_url`` is the registry's address for this client; a refusal names the trial below it.

    Raises:
        DeniedError: the gate refuses, with ``Retry-After`` where a verdict is on its way; or the reader is a
            worker and this is not the image of its live lease.
    """
    reading = Reading(database, settings, actor, repository)
    state: ImageState = manifest
    answer: Answer | None = None
    if actor.kind == "worker" and not is_leased(actor, repository, manifest):
        raise not_of_lease(actor)
    async with aclosing(_looks(reading, waiters)) as turns:
        async for _ in turns:
            if answer is not None:
                state = await state_of(database, manifest.id) or state
            answer = await ask(reading, manifest, state, tag=tag)
            if not isinstance(answer.decision, Wait):
                break
    assert answer is not None, "at least one look was taken"
    match answer.decision:
        case Admit():
            return manifest, Admission({}, await _tried_again(reading, manifest, answer))
        case AdmitWithWarning(sentence=text):
            return manifest, Admission(warning(text), await _tried_again(reading, manifest, answer))
        case AdmitEarlier(sentence=text):
            earlier = await manifest_use.get(database, repository, parse_digest(answer.question.earlier))
            _, of_it = await admit_manifest(
                database,
                settings,
                actor=actor,
                repository=repository,
                manifest=earlier,
                tag=None,
                base_url=base_url,
                waiters=waiters,
            )
            return earlier, Admission(warning(text), min(answer.until, of_it.until))
        case Wait(then=refusal) | (Refuse() as refusal):
            raise await refused(reading, refusal, digest=str(manifest.digest), base_url=base_url)


async def admit_blob(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    repository: Repository,
    digest: Digest,
    waiters: Waiters,
) -> Admission:
    """Let the blob be read if an admitted manifest of the repository names it; waits as
    :func:`admit_manifest` does.

    Raises:
        DeniedError: none does, or the reader is a worker and the blob is not of its lease's image.
    """
    reading = Reading(database, settings, actor, repository)
    if actor.kind == "worker" and not await is_of_lease(reading, digest):
        raise not_of_lease(actor)
    decision: Decision | None = None
    until = inf
    async with aclosing(_looks(reading, waiters)) as turns:
        async for _ in turns:
            decision, until = await decide_blob(reading, digest)
            if not isinstance(decision, Wait):
                break
    if isinstance(decision, Wait):
        decision = decision.then
    if isinstance(decision, Refuse):
        raise await refused(reading, decision)
    return Admission({}, until)


async def admits_blob(
    database: Database, settings: Settings, *, actor: Actor, repository: Repository, digest: Digest
) -> bool:
    """Whether :func:`admit_blob` would let the blob be read now. It waits for nothing and records nothing.

    For a mount: who may not read it is none the wiser, and uploads the bytes.
    """
    decision, _ = await decide_blob(Reading(database, settings, actor, repository), digest)
    return isinstance(decision, Admit | AdmitWithWarning)


async def explain_manifest(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    repository: Repository,
    manifest: StoredManifest,
    tag: str | None,
) -> tuple[Question, Decision]:
    """What the gate would say to this actor now, and what it looked at; nothing is recorded."""
    answer = await ask(Reading(database, settings, actor, repository), manifest, manifest, tag=tag)
    return as_decided(answer.question), answer.decision


def _looks(reading: Reading, waiters: Waiters | None) -> AsyncGenerator[None, None]:
    seconds = reading.settings.gate_wait_seconds
    if waiters is None:
        return looks(reading.database, seconds=seconds)
    return waiters.looks(reading.database, reading.actor, seconds=seconds)


async def _tried_again(reading: Reading, manifest: StoredManifest, answer: Answer) -> float:
    """How long the answer holds; an image whose verdict is too old has been queued again."""
    if answer.question.state != "expired" or not answer.question.can_retry:
        return answer.until
    await try_again(
        reading.database,
        reading.settings,
        repository_id=reading.repository.id,
        digest=str(manifest.digest),
    )
    # Each of these reads asks for the trial, in case the last one's was lost.
    return time.monotonic()
