"""Waivers: that an image, or all of a repository, is admitted for a while though its state is refused.

Who may push asks for one, a maintainer grants it, and where a namespace says so, another one than who asked.
It ends by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, insert, or_, select, update

from registry.auth.access import require_auditor
from registry.auth.owners import require_or_tell
from registry.auth.policy import decide
from registry.content import repositories as repos
from registry.content.administration import find
from registry.db.access import namespaces
from registry.db.content import edges, manifests, repositories
from registry.db.engine import move_epoch
from registry.db.gate import waivers
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import (
    ConflictError,
    DeniedError,
    ManifestUnknownError,
    NameUnknownError,
    NotFoundError,
    RequestInvalidError,
)
from registry.trials.attesting import attest_states
from registry.trials.bytwo import takes_two
from registry.trials.findingspolicies import RESTS_ON_FINDINGS
from registry.trials.rejudging import ask_again
from registry.trials.relief import WAIVERS_MAX, is_for
from registry.trials.statements import JUDGED

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.settings import Settings

WaivedState = Literal["fail", "error", "pending", "untried", "unsupported"]
Standing = Literal["requested", "granted", "ended", "expired"]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A waiver. Without ``digest`` it is for all images of the repository. ``standing`` is what it is now:
    only a granted one lets anything pass. With ``finding`` it excuses that one, in ``package`` alone if that
    is named, and nothing else: it has no states."""

    id: int
    repository: str
    digest: str | None
    states: tuple[WaivedState, ...]
    finding: str | None
    package: str | None
    reason: str
    standing: Standing
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    granted_by: str | None
    granted_at: datetime | None
    ended_by: str | None
    ended_at: datetime | None


async def request(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    digest: str | None,
    states: Collection[WaivedState],
    reason: str,
    expires_at: datetime,
    finding: str | None = None,
    package: str | None = None,
) -> Waiver:
    """Ask for a waiver for an image of a repository, or for all of them: of states, or of one finding.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: the actor may not push there, or there is none.
        ManifestUnknownError: the repository has no such image.
        RequestInvalidError: it ends in the past, or later than ``waiver_max_days`` from now; or it is for
            neither states nor a finding, or for both.
        ConflictError: as many are live there, or are waiting, as can be.
    """
    if bool(states) == (finding is not None) or (package is not None and finding is None):
        raise RequestInvalidError("a waiver is for states, or for one finding, in a package if one is named")
    repository = await find(database, actor=actor, action="push", name=name)
    async with database.write() as connection:
        if not await repos.lock(connection, repository.id):
            raise NameUnknownError(f"there is no repository {name}")
        now = (await connection.execute(select(db_time()))).scalar_one()
        if not now < expires_at <= now + timedelta(days=settings.waiver_max_days):
            raise RequestInvalidError(
                f"a waiver ends after now and at most {settings.waiver_max_days} days later (the setting "
                "waiver_max_days)"
            )
        here = manifests.c.repository_id == repository.id
        held = select(manifests.c.id).where(here, manifests.c.digest == digest)
        if digest is not None and (await connection.execute(held)).first() is None:
            raise ManifestUnknownError(f"{name} has no manifest {digest}")
        open_ones = select(func.count()).where(
            waivers.c.repository_id == repository.id, waivers.c.expires_at > now, waivers.c.ended_at.is_(None)
        )
        if (await connection.execute(open_ones)).scalar_one() >= WAIVERS_MAX:
            raise ConflictError(f"{name} has {WAIVERS_MAX} waivers that have not ended; revoke some first")
        made = await connection.execute(
            insert(waivers)
            .values(
                repository_id=repository.id,
                digest=digest,
                states=json.dumps(sorted(set(states))),
                finding=finding,
                package=package,
                reason=reason,
                requested_by=actor.shown,
                requested_account_id=actor.account_id,
                requested_at=now,
                expires_at=expires_at,
            )
            .returning(waivers.c.id)
        )
        waiver = await _show(connection, made.scalar_one())
        await record(connection, "waiver.requested", name, actor, _told(waiver), target=digest)
    return waiver


async def grant(database: Database, *, actor: Actor, waiver_id: int) -> Waiver:
    """Let a waiver that was asked for count from now on.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer there; or he asked for it himself, and the
            namespace wants two.
        NotFoundError: there is none, or it is not for the actor to know.
        ConflictError: it has ended, or counts already.
    """
    name = await _require(database, actor, waiver_id)
    async with database.write() as connection:
        row = await _locked(connection, waiver_id)
        waiver = _waiver(row)
        if waiver.standing != "requested":
            raise ConflictError(f"waiver {waiver_id} is {waiver.standing}, and was not just asked for")
        is_own = actor.account_id == row.requested_account_id
        if is_own and await takes_two(connection, name, namespaces.c.waivers_by_two):
            raise DeniedError(
                f"{actor.shown} asked for waiver {waiver_id}, and above {name} somebody else has to grant it"
            )
        changed = {"granted_by": actor.shown, "granted_at": db_time()}
        return await _change(connection, waiver, changed, "waiver.granted", actor)


async def revoke(database: Database, *, actor: Actor, waiver_id: int) -> Waiver:
    """End a waiver: a maintainer refuses or revokes it, or who asked for it takes that back.

    Raises:
        UnauthorizedError, DeniedError: the actor is neither.
        NotFoundError: there is none, or it is not for the actor to know.
        ConflictError: it has ended already.
    """
    await _require(database, actor, waiver_id, or_who_asked=True)
    async with database.write() as connection:
        waiver = _waiver(await _locked(connection, waiver_id))
        if waiver.standing in ("ended", "expired"):
            raise ConflictError(f"waiver {waiver_id} is {waiver.standing} already")
        changed = {"ended_by": actor.shown, "ended_at": db_time()}
        return await _change(connection, waiver, changed, "waiver.revoked", actor)


async def show(database: Database, *, actor: Actor, waiver_id: int) -> Waiver:
    """One waiver, for those who may pull from its repository.

    Raises:
        NotFoundError: there is none, or it is not for the actor to know.
    """
    row, _ = await _find(database, actor, waiver_id)
    return _waiver(row)


async def list_waivers(
    database: Database, *, actor: Actor, name: str | None, limit: int, before: int | None
) -> list[Waiver]:
    """At most ``limit`` waivers, the newest first, with an id below ``before``: those of a repository, for
    those who may pull from it; or all.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there; of all, is no administrator or auditor.
        NameUnknownError: there is no such repository.
    """
    query = _WAIVERS
    if name is not None:
        await find(database, actor=actor, action="pull", name=name)
        query = query.where(repositories.c.name == name)
    else:
        require_auditor(actor, "see the waivers of all repositories")
    if before is not None:
        query = query.where(waivers.c.id < before)
    async with database.read_once() as connection:
        rows = await connection.execute(query.order_by(waivers.c.id.desc()).limit(limit))
        return [_waiver(row) for row in rows]


async def list_of_findings(database: Database, *, repository_id: int, digest: str) -> list[Waiver]:
    """What somebody asked to be excused, or granted, of the findings of one image, and has not ended: by its
    digest, by that of an index that lists it, or of its whole repository. The newest first."""
    query = _WAIVERS.where(
        waivers.c.repository_id == repository_id,
        waivers.c.finding.is_not(None),
        waivers.c.expires_at > db_time(),
        waivers.c.ended_at.is_(None),
        is_for(repository_id, digest),
    )
    async with database.read_once() as connection:
        rows = await connection.execute(query.order_by(waivers.c.id.desc()).limit(WAIVERS_MAX))
        return [_waiver(row) for row in rows]


async def _find(database: Database, actor: Actor, waiver_id: int) -> tuple[Row[Any], str]:
    async with database.read_once() as connection:
        row = (await connection.execute(_WAIVERS.where(waivers.c.id == waiver_id))).first()
    if row is None or not decide(actor, "pull", row.repository, row.visibility).allowed:
        raise _unknown(waiver_id)
    return row, str(row.repository)


async def _require(database: Database, actor: Actor, waiver_id: int, *, or_who_asked: bool = False) -> str:
    """The repository's name, if the actor may decide about the waiver."""
    row, name = await _find(database, actor, waiver_id)
    if or_who_asked and actor.account_id is not None and actor.account_id == row.requested_account_id:
        await require_or_tell(database, actor, "push", name, row.visibility)
    else:
        await require_or_tell(database, actor, "configure", name, row.visibility)
    return name


async def _locked(connection: AsyncConnection, waiver_id: int) -> Row[Any]:
    """The row, with the lock of its repository, whose images it is about."""
    lies_in = select(waivers.c.repository_id).where(waivers.c.id == waiver_id)
    repository_id = (await connection.execute(lies_in)).scalar_one_or_none()
    held = select(waivers.c.id).where(waivers.c.id == waiver_id).with_for_update()
    if (
        repository_id is None
        or not await repos.lock(connection, repository_id)
        or (await connection.execute(held)).first() is None
    ):
        raise _unknown(waiver_id)
    row: Row[Any] = (await connection.execute(_WAIVERS.where(waivers.c.id == waiver_id))).one()
    return row


async def _change(
    connection: AsyncConnection,
    waiver: Waiver,
    changed: dict[str, Any],
    kind: Literal["waiver.granted", "waiver.revoked"],
    actor: Actor,
) -> Waiver:
    await connection.execute(update(waivers).where(waivers.c.id == waiver.id).values(changed))
    after = await _show(connection, waiver.id)
    await record(connection, kind, waiver.repository, actor, _told(after), target=waiver.digest)
    await _attest(connection, after)
    await move_epoch(connection, "gate")
    return after


async def _attest(connection: AsyncConnection, waiver: Waiver) -> None:
    """Have the statements about the images that it lets pass name it, or name it no more; and have images
    judged again whose finding it excuses."""
    if waiver.finding is not None:
        await _judge_again(connection, waiver)
        return
    judged = sorted(JUDGED & set(waiver.states))
    query = (
        select(manifests.c.digest, manifests.c.repository_id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(repositories.c.name == waiver.repository, manifests.c.state.in_(judged))
    )
    if waiver.digest is not None:
        listed = _listed_by(waiver.digest)
        query = query.where(or_(manifests.c.digest == waiver.digest, manifests.c.digest.in_(listed)))
    rows = (await connection.execute(query)).all()
    if rows:
        await attest_states(connection, rows[0].repository_id, [row.digest for row in rows])


async def _judge_again(connection: AsyncConnection, waiver: Waiver) -> None:
    of_repository = select(repositories.c.id).where(repositories.c.name == waiver.repository)
    which = manifests.c.repository_id.in_(of_repository) & manifests.c.runnable
    if waiver.digest is not None:
        which = which & or_(
            manifests.c.digest == waiver.digest, manifests.c.digest.in_(_listed_by(waiver.digest))
        )
    await ask_again(connection, which & RESTS_ON_FINDINGS)


def _listed_by(digest: str) -> Select[Any]:
    index = manifests.alias("index")
    return (
        select(edges.c.digest)
        .join(index, index.c.id == edges.c.manifest_id)
        .where(index.c.digest == digest, edges.c.kind == "child")
    )


async def _show(connection: AsyncConnection, waiver_id: int) -> Waiver:
    return _waiver((await connection.execute(_WAIVERS.where(waivers.c.id == waiver_id))).one())


def _waiver(row: Row[Any]) -> Waiver:
    values = row._asdict()
    now = values.pop("now")
    for name in ("visibility", "requested_account_id"):
        del values[name]
    standing: Standing = "requested" if row.granted_at is None else "granted"
    if row.ended_at is not None:
        standing = "ended"
    elif row.expires_at <= now:
        standing = "expired"
    return Waiver(**{**values, "states": tuple(json.loads(row.states)), "standing": standing})


def _told(waiver: Waiver) -> dict[str, object]:
    return {
        "waiver": waiver.id,
        "digest": waiver.digest,
        "states": list(waiver.states),
        **({} if waiver.finding is None else {"finding": waiver.finding, "package": waiver.package}),
        "reason": waiver.reason,
        "requested_by": waiver.requested_by,
        "expires_at": waiver.expires_at.isoformat(),
    }


def _unknown(waiver_id: int) -> NotFoundError:
    return NotFoundError(f"there is no waiver {waiver_id}, or it is not yours to see")


_WAIVERS: Select[Any] = select(
    waivers.c.id,
    repositories.c.name.label("repository"),
    repositories.c.visibility,
    waivers.c.digest,
    waivers.c.states,
    waivers.c.finding,
    waivers.c.package,
    waivers.c.reason,
    waivers.c.requested_by,
    waivers.c.requested_account_id,
    waivers.c.requested_at,
    waivers.c.expires_at,
    waivers.c.granted_by,
    waivers.c.granted_at,
    waivers.c.ended_by,
    waivers.c.ended_at,
    db_time().label("now"),
).join(repositories, repositories.c.id == waivers.c.repository_id)
