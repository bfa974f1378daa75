"""What the database knows of one image, as a question to the gate, and what the gate says to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import cast

from sqlalchemy import select

from registry.auth.actor import Actor
from registry.auth.policy import Action, Visibility
from registry.auth.policy import decide as decide_access
from registry.content.manifests import StoredManifest
from registry.content.repositories import Repository
from registry.db.content import STATE_COLUMNS, manifests
from registry.db.engine import Database
from registry.db.types import db_time
from registry.oci.mediatypes import MANIFESTS
from registry.settings import Settings
from registry.trials.gate import Admit, AdmitWithWarning, Decision, Question, Refuse, Wait, decide
from registry.trials.holding import Position, last_admitted
from registry.trials.platforms import is_run
from registry.trials.relief import Relief, relief_of, relief_of_images
from registry.trials.signatures import has_signatures, required_in, signed_of_tag
from registry.trials.states import (
    BadPolicy,
    ImageState,
    bad_policy,
    depends_on_time,
    effective_state,
    holds_until,
)

_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_WRITING: tuple[Action, ...] = ("push", "trial")


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads in which repository."""

    database: Database
    settings: Settings
    actor: Actor
    repository: Repository
    as_reader: bool = False
    """Whether it counts for nothing that the actor may push."""

    @property
    def policy(self) -> BadPolicy:
        """What the repository does with images that passed and turn bad."""
        return bad_policy(self.repository.turned_bad, self.repository.turned_bad_days)


@dataclass(frozen=True, slots=True)
class HeldState:
    """A state as its row says: :data:`~registry.db.content.STATE_COLUMNS`."""

    state: str
    state_reason: str
    state_at: datetime
    grandfathered_until: datetime | None
    blocked_reason: str | None
    turned_bad_at: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gate was asked, what it said, and how long that holds."""

    question: Question
    decision: Decision
    until: float


def is_writer(actor: Actor, *, name: str, visibility: Visibility) -> bool:
    """Whether the reader's own credential may push or start trials, whatever its registry token was asked
    for: then it reads what was pushed, and what the image wrote when it was tried."""
    own = actor.by_credential
    return any(decide_access(own, action, name, visibility).allowed for action in _WRITING)


def may_read_log(actor: Actor, *, repository: str, visibility: Visibility) -> bool:
    """Whether the actor, which may pull from the repository, may read what images of it wrote."""
    return actor.is_auditor or is_writer(actor, name=repository, visibility=visibility)


async def ask(reading: Reading, manifest: StoredManifest, state: ImageState, *, tag: str | None) -> Answer:
    """Ask the gate about an image in this state, which ``tag`` names if the reader gave one."""
    max_age = max_verdict_age(reading.settings)
    now = await _now(reading.database) if depends_on_time(state, max_age=max_age) else _ANY_TIME
    required = await required_in(reading.database, reading.repository)
    is_signed = required is None or await has_signatures(reading.database, manifest.id, required)
    lacking = "" if required is None or is_signed else required.sentence
    question = question_of(reading, manifest, state, lacking=lacking, now=now)
    decision = decide(question)
    changes = [holds_until(state, now=now, max_age=max_age), reading.policy.until(state)]
    until = first_change(changes, now=now)
    if isinstance(decision, Admit) or question.state == "blocked":
        return Answer(question, decision, until)
    its = await relief_of_images(reading.database, reading.repository, [str(manifest.digest)])
    relief = its[0].relief
    until = min(until, first_change(relief.ends, now=relief.now))
    question = relieved(question, relief, str(manifest.digest))
    decision = decide(question)
    if tag is not None and question.gate == "hold" and isinstance(decision, Wait | Refuse):
        relief = await relief_of(reading.database, reading.repository)
        until = min(until, first_change(relief.ends, now=relief.now))
        signed = None
        if required is not None:
            signed = await signed_of_tag(reading.database, reading.repository.id, tag, required)
        admits = partial(_admits, reading, relief, signed)
        earlier = await last_admitted(reading.database, reading.repository.id, tag, admits)
        question = replace(question, earlier=earlier or "")
        decision = decide(question)
    return Answer(question, decision, until)


def question_of(
    reading: Reading, manifest: StoredManifest, state: ImageState, *, lacking: str, now: datetime
) -> Question:
    """The question about an image in this state, without what would let it pass; ``lacking`` says which
    signatures it lacks that are required."""
    referrer = (
        manifest.subject_digest is not None and not manifest.runnable and manifest.media_type in MANIFESTS
    )
    question = _question(
        reading, state, digest=str(manifest.digest), platform=manifest.platform, referrer=referrer, now=now
    )
    return replace(question, unsigned=lacking, referrer=False) if lacking else question


def relieved(question: Question, relief: Relief, digest: str) -> Question:
    """The question with the waiver and the pause that count for this image."""
    waiver = relief.waiver_for(digest, question.state)
    return replace(
        question,
        waiver="" if waiver is None else waiver.text,
        paused="" if relief.pause is None else relief.pause.text,
    )


def _question(
    reading: Reading,
    state: ImageState,
    *,
    digest: str,
    platform: str | None,
    referrer: bool,
    now: datetime,
) -> Question:
    repository, settings = reading.repository, reading.settings
    effective = effective_state(state, now=now, max_age=max_verdict_age(settings))
    return Question(
        gate=repository.gate,
        state=effective.state,
        subject=f"{repository.name}@{digest}",
        reason=effective.reason,
        may_push=not reading.as_reader
        and is_writer(reading.actor, name=repository.name, visibility=repository.visibility),
        holds_lease=reading.actor.kind == "worker",
        referrer=referrer,
        can_retry=platform is None or is_run(platform, settings.trial_platforms),
        kept=reading.policy.kept(state, now=now),
        kept_until=_day(reading.policy.until(state)),
    )


def _admits(reading: Reading, relief: Relief, signed: Collection[str] | None, position: Position) -> bool:
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
    return isinstance(decide(relieved(question, relief, str(position.digest))), Admit | AdmitWithWarning)


def first_change(changes: Iterable[datetime | None], *, now: datetime) -> float:
    """The first of these times that is to come, by this process's own clock, which no one sets."""
    seconds = [(change - now).total_seconds() for change in changes if change is not None and change > now]
    return time.monotonic() + min(seconds) if seconds else inf


async def state_of(database: Database, manifest_id: int) -> ImageState | None:
    """The state of an image now; ``None``: it is gone."""
    async with database.read_once() as connection:
        row = (await connection.execute(select(*STATE_COLUMNS).where(manifests.c.id == manifest_id))).first()
    return None if row is None else HeldState(*row)


def max_verdict_age(settings: Settings) -> timedelta | None:
    """How long a good verdict holds; ``None``: for ever."""
    return timedelta(days=settings.verdict_max_age_days) if settings.verdict_max_age_days else None


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


async def _now(database: Database) -> datetime:
    async with database.read_once() as connection:
        return (await connection.execute(select(db_time()))).scalar_one()
