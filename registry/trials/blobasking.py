"""Whether a blob may be read: by the best of the images of the repository that name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf

from sqlalchemy import ColumnElement, func, literal, select

from registry.db.content import STATE_COLUMNS, edges, manifests
from registry.db.dialect import batches
from registry.db.types import db_time
from registry.oci.digest import Digest
from registry.trials.asking import HeldState, Reading, first_change, is_writer, max_verdict_age, relieved
from registry.trials.gate import Admit, AdmitWithWarning, Decision, Question, Refuse, Wait, decide
from registry.trials.relief import Relief, relief_of
from registry.trials.signatures import is_signed, required_in
from registry.trials.states import BadPolicy, effective_state, holds_until


async def decide_blob(reading: Reading, digest: Digest) -> tuple[Decision, float]:
    """What the gate says of a blob, and how long that holds (:func:`time.monotonic`)."""
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
    max_age, now = max_verdict_age(reading.settings), rows[0].now
    unsigned = "" if required is None else required.sentence
    named = [_Named("", HeldState(*row[:-2]), "" if row.signed else unsigned) for row in rows]
    policy = reading.policy
    decision = _best([decide(one.asked(question, now, max_age, policy)) for one in named])
    changes = [holds_until(one.state, now=now, max_age=max_age) for one in named]
    until = first_change([*changes, *(policy.until(one.state) for one in named)], now=now)
    if isinstance(decision, Admit) or all(one.state.blocked_reason is not None for one in named):
        return decision, until
    relief = await relief_of(reading.database, repository)
    named += await _waived_by_name(reading, digest, relief, signed, unsigned)
    asked = [(one.digest, one.asked(question, relief.now, max_age, policy)) for one in named]
    decision = _best([decide(relieved(one, relief, image)) for image, one in asked])
    return decision, min(until, first_change(relief.ends, now=relief.now))


@dataclass(frozen=True, slots=True)
class _Named:
    """An image that names a blob; with an empty ``digest`` all those in this state."""

    digest: str
    state: HeldState
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
    reading: Reading, digest: Digest, relief: Relief, signed: ColumnElement[bool], unsigned: str
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
            found += [
                _Named(row.digest, HeldState(*row[1:-1]), "" if row.signed else unsigned) for row in rows
            ]
    return found


def _best(answers: Sequence[Decision]) -> Decision:
    order = (Admit, AdmitWithWarning, Wait, Refuse)  # no blob is read by a tag
    return min(answers, key=lambda answer: order.index(type(answer)))
