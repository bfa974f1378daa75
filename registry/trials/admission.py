"""Whether a manifest or a blob may be read: the gate, asked with what the database knows.

The access policy and the token service have been asked before, so a worker's lease is live; here the state of
images counts, and for a worker which image its lease is for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import cast

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.auth.policy import Action, Visibility
from registry.auth.policy import decide as decide_access
from registry.content import manifests as manifest_use
from registry.content.manifests import StoredManifest
from registry.content.repositories import Repository
from registry.db.content import STATE_COLUMNS, edges, manifests
from registry.db.dialect import batches
from registry.db.engine import Database
from registry.db.trials import trials
from registry.db.types import db_time
from registry.errors import DeniedError, GateRefusedError
from registry.oci.digest import Digest, parse_digest
from registry.oci.mediatypes import MANIFESTS
from registry.settings import Settings
from registry.trials.gate import (
    Admit,
    AdmitEarlier,
    AdmitWithWarning,
    Decision,
    Question,
    Refuse,
    Wait,
    as_decided,
    decide,
)
from registry.trials.holding import Position, last_admitted
from registry.trials.platforms import is_run
from registry.trials.relief import Relief, relief_of
from registry.trials.requests import try_again
from registry.trials.signatures import has_signatures, is_signed, required_in, signed_of_tag
from registry.trials.states import (
    BadPolicy,
    ImageState,
    bad_policy,
    depends_on_time,
    effective_state,
    holds_until,
)
from registry.trials.waiting import looks

_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_WARNING_MAX = 1000
_WRITING: tuple[Action, ...] = ("push", "trial")


@dataclass(frozen=True, slots=True)
class Admission:
    """That content may be read, with these headers. ``until`` is how long that holds while no epoch moves
    (:func:`time.monotonic`)."""

    headers: Mapping[str, str]
    until: float


@dataclass(frozen=True, slots=True)
class _Reading:
    """Who reads in which repository."""

    database: Database
    settings: Settings
    actor: Actor
    repository: Repository

    @property
    def policy(self) -> BadPolicy:
        """What the repository does with images that passed and turn bad."""
        return bad_policy(self.repository.turned_bad, self.repository.turned_bad_days)


@dataclass(frozen=True, slots=True)
class _State:
    state: str
    state_reason: str
    state_at: datetime
    grandfathered_until: datetime | None
    blocked_reason: str | None
    turned_bad_at: datetime | None


async def admit_manifest(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    repository: Repository,
    manifest: StoredManifest,
    tag: str | None,
    base_url: str,
) -> tuple[StoredManifest, Admission]:
    """Let the manifest be read, or where ``tag`` names it and is held, the last admitted one of that tag;
    waits up to ``gate_wait_seconds`` for a pending verdict.

    ``base_url`` is the registry's address for this client; a refusal names the trial below it.

    Raises:
        DeniedError: the gate refuses, with ``Retry-After`` where a verdict is on its way; or the reader is a
            worker and this is not the image of its live lease.
    """
    reading = _Reading(database, settings, actor, repository)
    state: ImageState = manifest
    answer: _Answer | None = None
    if actor.kind == "worker" and not _is_leased(actor, repository, manifest):
        raise _not_of_lease(actor)
    async for _ in looks(database, seconds=settings.gate_wait_seconds):
        if answer is not None:
            state = await _state_of(database, manifest.id) or state
        answer = await _ask(reading, manifest, state, tag=tag)
        if not isinstance(answer.decision, Wait):
            break
    assert answer is not None, "at least one look was taken"
    match answer.decision:
        case Admit():
            return manifest, Admission({}, await _tried_again(reading, manifest, answer))
        case AdmitWithWarning(sentence=text):
            return manifest, Admission(_warning(text), await _tried_again(reading, manifest, answer))
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
            )
            return earlier, Admission(_warning(text), min(answer.until, of_it.until))
        case Wait(then=refusal) | (Refuse() as refusal):
            raise await _refused(reading, refusal, digest=str(manifest.digest), base_url=base_url)


async def admit_blob(
    database: Database, settings: Settings, *, actor: Actor, repository: Repository, digest: Digest
) -> Admission:
    """Let the blob be read if an admitted manifest of the repository names it; waits as
    :func:`admit_manifest` does.

    Raises:
        DeniedError: none does, or the reader is a worker and the blob is not of its lease's image.
    """
    reading = _Reading(database, settings, actor, repository)
    if actor.kind == "worker" and not await _is_of_lease(reading, digest):
        raise _not_of_lease(actor)
    decision: Decision | None = None
    until = inf
    async for _ in looks(database, seconds=settings.gate_wait_seconds):
        decision, until = await _decide_blob(reading, digest)
        if not isinstance(decision, Wait):
            break
    if isinstance(decision, Wait):
        decision = decision.then
    if isinstance(decision, Refuse):
        raise await _refused(reading, decision)
    return Admission({}, until)


async def admits_blob(
    database: Database, settings: Settings, *, actor: Actor, repository: Repository, digest: Digest
) -> bool:
    """Whether :func:`admit_blob` would let the blob be read now. It waits for nothing and records nothing.

    For a mount: who may not read it is none the wiser, and uploads the bytes.
    """
    decision, _ = await _decide_blob(_Reading(database, settings, actor, repository), digest)
    return isinstance(decision, Admit | AdmitWithWarning)


def is_writer(actor: Actor, *, name: str, visibility: Visibility) -> bool:
    """Whether the reader's own credential may push or start trials, whatever its registry token was asked
    for: then it reads what was pushed, and what the image wrote when it was tried."""
    own = actor.by_credential
    return any(decide_access(own, action, name, visibility).allowed for action in _WRITING)


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
    answer = await _ask(_Reading(database, settings, actor, repository), manifest, manifest, tag=tag)
    return as_decided(answer.question), answer.decision


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the gate was asked, what it said, and how long that holds."""

    question: Question
    decision: Decision
    until: float


async def _ask(reading: _Reading, manifest: StoredManifest, state: ImageState, *, tag: str | None) -> _Answer:
    max_age = _max_age(reading.settings)
    now = await _now(reading.database) if depends_on_time(state, max_age=max_age) else _ANY_TIME
    referrer = (
        manifest.subject_digest is not None and not manifest.runnable and manifest.media_type in MANIFESTS
    )
    question = _question(
        reading, state, digest=str(manifest.digest), platform=manifest.platform, referrer=referrer, now=now
    )
    required = await required_in(reading.database, reading.repository)
    if required is not None and not await has_signatures(reading.database, manifest.id, required):
        question = replace(question, unsigned=required.sentence, referrer=False)
    decision = decide(question)
    changes = [holds_until(state, now=now, max_age=max_age), reading.policy.until(state)]
    until = _until(changes, now=now)
    if isinstance(decision, Admit) or question.state == "blocked":
        return _Answer(question, decision, until)
    relief = await relief_of(reading.database, reading.repository)
    until = min(until, _until(relief.ends, now=relief.now))
    question = _relieved(question, relief, str(manifest.digest))
    decision = decide(question)
    if tag is not None and question.gate == "hold" and isinstance(decision, Wait | Refuse):
        signed = None
        if required is not None:
            signed = await signed_of_tag(reading.database, reading.repository.id, tag, required)
        admits = partial(_admits, reading, relief, signed)
        earlier = await last_admitted(reading.database, reading.repository.id, tag, admits)
        question = replace(question, earlier=earlier or "")
        decision = decide(question)
    return _Answer(question, decision, until)


def _relieved(question: Question, relief: Relief, digest: str) -> Question:
    """The question with the waiver and the pause that count for this image."""
    waiver = relief.waiver_for(digest, question.state)
    return replace(
        question,
        waiver="" if waiver is None else waiver.text,
        paused="" if relief.pause is None else relief.pause.text,
    )


def _question(
    reading: _Reading,
    state: ImageState,
    *,
    digest: str,
    platform: str | None,
    referrer: bool,
    now: datetime,
) -> Question:
    repository, settings = reading.repository, reading.settings
    effective = effective_state(state, now=now, max_age=_max_age(settings))
    return Question(
        gate=repository.gate,
        state=effective.state,
        subject=f"{repository.name}@{digest}",
        reason=effective.reason,
        may_push=is_writer(reading.actor, name=repository.name, visibility=repository.visibility),
        holds_lease=reading.actor.kind == "worker",
        referrer=referrer,
        can_retry=platform is None or is_run(platform, settings.trial_platforms),
        kept=reading.policy.kept(state, now=now),
        kept_until=_day(reading.policy.until(state)),
    )


def _admits(reading: _Reading, relief: Relief, signed: Collection[str] | None, position: Position) -> bool:
    """Whether the gate lets pass what a tag stood at; ``signed`` is what has the signatures that are
    required, ``None``: none are."""
    if signed is not None and position.digest not in signed:
        return False
    question = _question(
        reading,
        cast(ImageState, position),
        digest=str(position.digest),
        platform=position.platform,
        referrer=False,
        now=position.now,
    )
    relieved = _relieved(question, relief, str(position.digest))
    return isinstance(decide(relieved), Admit | AdmitWithWarning)


async def _tried_again(reading: _Reading, manifest: StoredManifest, answer: _Answer) -> float:
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


async def _decide_blob(reading: _Reading, digest: Digest) -> tuple[Decision, float]:
    repository = reading.repository
    required = await required_in(reading.database, repository)
    signed = literal(value=True) if required is None else is_signed(required)
    # One row for each kind of state: a base layer may be named by thousands of images.
    states = (
        select(
            manifests.c.state,
            func.max(manifests.c.state_reason).label("state_reason"),
            func.max(manifests.c.state_at).label("state_at"),
            func.max(manifests.c.grandfathered_until).label("grandfathered_until"),
            func.max(manifests.c.blocked_reason).label("blocked_reason"),
            # Of those that turned bad, the last is let pass longest.
            func.max(manifests.c.turned_bad_at).label("turned_bad_at"),
            signed.label("signed"),
            db_time().label("now"),
        )
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(manifests.c.repository_id == repository.id, edges.c.digest == str(digest))
        .group_by(manifests.c.state, manifests.c.blocked_reason.is_(None), "signed")
    )
    async with reading.database.read_once() as connection:
        rows = (await connection.execute(states)).all()
    question = Question(
        gate=repository.gate,
        state="untried",
        subject=f"blob {digest} of {repository.name}",
        reason="no admitted image of the repository names it",
        may_push=is_writer(reading.actor, name=repository.name, visibility=repository.visibility),
        holds_lease=reading.actor.kind == "worker",
        can_retry=True,
    )
    if not rows:
        return decide(question), inf
    question = replace(question, subject=f"the image that names blob {digest} in {repository.name}")
    max_age, now = _max_age(reading.settings), rows[0].now
    unsigned = "" if required is None else required.sentence
    named = [_Named("", _State(*row[:-2]), "" if row.signed else unsigned) for row in rows]
    policy = reading.policy
    decision = _best([decide(one.asked(question, now, max_age, policy)) for one in named])
    changes = [holds_until(one.state, now=now, max_age=max_age) for one in named]
    until = _until([*changes, *(policy.until(one.state) for one in named)], now=now)
    if isinstance(decision, Admit) or all(one.state.blocked_reason is not None for one in named):
        return decision, until
    relief = await relief_of(reading.database, repository)
    named += await _waived_by_name(reading, digest, relief, signed, unsigned)
    asked = [(one.digest, one.asked(question, relief.now, max_age, policy)) for one in named]
    decision = _best([decide(_relieved(one, relief, image)) for image, one in asked])
    return decision, min(until, _until(relief.ends, now=relief.now))


@dataclass(frozen=True, slots=True)
class _Named:
    """An image that names a blob; with an empty ``digest`` all those in this state."""

    digest: str
    state: _State
    unsigned: str

    def asked(
        self, question: Question, now: datetime, max_age: timedelta | None, policy: BadPolicy
    ) -> Question:
        """The question about this image."""
        effective = effective_state(self.state, now=now, max_age=max_age)
        kept = policy.kept(self.state, now=now)
        return replace(
            question, state=effective.state, reason=effective.reason, kept=kept, unsigned=self.unsigned
        )


async def _waived_by_name(
    reading: _Reading, digest: Digest, relief: Relief, signed: ColumnElement[bool], unsigned: str
) -> list[_Named]:
    """The images that name a blob and that waivers name."""
    query = (
        select(manifests.c.digest, *STATE_COLUMNS, signed.label("signed"))
        .distinct()
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(manifests.c.repository_id == reading.repository.id, edges.c.digest == str(digest))
    )
    found: list[_Named] = []
    for batch in batches(sorted(relief.digests)):
        async with reading.database.read_once() as connection:
            rows = await connection.execute(query.where(manifests.c.digest.in_(batch)))
            found += [_Named(row.digest, _State(*row[1:-1]), "" if row.signed else unsigned) for row in rows]
    return found


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _until(changes: Iterable[datetime | None], *, now: datetime) -> float:
    """The first of these times that is to come, by this process's own clock, which no one sets."""
    seconds = [(change - now).total_seconds() for change in changes if change is not None and change > now]
    return time.monotonic() + min(seconds) if seconds else inf


def _best(answers: Sequence[Decision]) -> Decision:
    order = (Admit, AdmitWithWarning, Wait, Refuse)  # no blob is read by a tag
    return min(answers, key=lambda answer: order.index(type(answer)))


def _is_leased(actor: Actor, repository: Repository, manifest: StoredManifest) -> bool:
    lease = actor.lease
    return lease is not None and lease.repository == repository.name and lease.digest == str(manifest.digest)


def _not_of_lease(actor: Actor) -> DeniedError:
    return DeniedError(f"{actor.shown} reads the image of its lease and nothing else")


async def _is_of_lease(reading: _Reading, blob: Digest) -> bool:
    """Whether the image of the worker's lease is made of the blob, among others."""
    lease = reading.actor.lease
    if lease is None or lease.repository != reading.repository.name:
        return False
    named = (
        select(edges.c.digest)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .where(
            manifests.c.repository_id == reading.repository.id,
            manifests.c.digest == lease.digest,
            edges.c.digest == str(blob),
        )
        .limit(1)
    )
    async with reading.database.read_once() as connection:
        return (await connection.execute(named)).first() is not None


async def _state_of(database: Database, manifest_id: int) -> ImageState | None:
    async with database.read_once() as connection:
        row = (await connection.execute(select(*STATE_COLUMNS).where(manifests.c.id == manifest_id))).first()
    return None if row is None else _State(*row)


async def _now(database: Database) -> datetime:
    async with database.read_once() as connection:
        return (await connection.execute(select(db_time()))).scalar_one()


def _max_age(settings: Settings) -> timedelta | None:
    return timedelta(days=settings.verdict_max_age_days) if settings.verdict_max_age_days else None


async def _refused(
    reading: _Reading, refusal: Refuse, *, digest: str | None = None, base_url: str = ""
) -> GateRefusedError:
    """The error that tells of the refusal."""
    trial = None
    if digest is not None:
        async with reading.database.read_once() as connection:
            trial = await _newest_trial(connection, reading.repository.id, digest)
    address = "" if trial is None else f" (see {base_url}/api/v1/trials/{trial})"
    headers, advice = {}, ""
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(refusal.retry_after_seconds)
        advice = f"; try again in {refusal.retry_after_seconds} seconds"
    return GateRefusedError(
        f"{refusal.sentence}{advice}{address}",
        repository=reading.repository.name,
        reason=refusal.sentence,
        digest=digest,
        trial=trial,
        headers=headers,
    )


async def _newest_trial(connection: AsyncConnection, repository_id: int, digest: str) -> str | None:
    query = (
        select(trials.c.id)
        .where(trials.c.repository_id == repository_id, trials.c.digest == digest)
        .order_by(trials.c.created_at.desc(), trials.c.id.desc())
        .limit(1)
    )
    return (await connection.execute(query)).scalar_one_or_none()


def _warning(text: str) -> Mapping[str, str]:
    return {"Warning": f'299 - "{_header_text(text)}"'}


def _header_text(text: str) -> str:
    """``text`` within a quoted string of RFC 9110: printable ASCII without quotes and backslashes."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" if c in '"\\' else " " for c in text)
    return plain[:_WARNING_MAX]
