"""Promotions as people ask for them, agree to them, carry them out and take them back.

Where the destination's namespace wants two people, what one asks for is looked at by another, who grants it:
of the same digest, on a tag that has not moved since. Nobody grants his own, no robot grants any, and a
request ends by itself.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from registry.auth.owners import require_or_tell
from registry.content import repositories as repos
from registry.content import tags as tag_use
from registry.content.tagmoves import require_standing
from registry.db.access import namespaces
from registry.db.content import manifests, tag_history
from registry.db.engine import leave_epochs, move_epoch
from registry.db.outbox import record
from registry.db.promotions import promotions
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, NameUnknownError
from registry.oci.digest import parse_digest
from registry.trials.bytwo import takes_two
from registry.trials.promoting import (
    Attempt,
    Destination,
    Offer,
    Preview,
    attempt,
    find_offer,
    refused,
    require_destination,
)
from registry.trials.promotionrows import Promotion, find_row, lock_row, sees_source, show_in, standing_of

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.effects import Effects
    from registry.db.engine import Database
    from registry.settings import Settings

REQUEST_LIFE = timedelta(days=7)
OPEN_MAX = 100
"""How many requests wait for one repository at once."""
_BY_TWO = namespaces.c.promotions_by_two


async def preview(database: Database, settings: Settings, effects: Effects, *, offer: Offer) -> Preview:
    """What a promotion would do now, and why it would be refused; nothing of it stays.

    Raises:
        DeniedError, NameUnknownError, ManifestUnknownError, ConflictError: as
            :func:`~registry.trials.promoting.attempt`.
    """
    async with database.write() as connection:
        tried = await connection.begin_nested()
        leave_epochs(connection)
        made = await attempt(connection, settings, effects, offer)
        await tried.rollback()
        if made.preview.would == "promote" and await takes_two(connection, offer.to.name, _BY_TWO):
            return replace(made.preview, would="request")
        return made.preview


async def promote(
    database: Database, settings: Settings, effects: Effects, *, offer: Offer, stands_at: str | None = None
) -> Promotion:
    """Set the tag, or where that takes two ask for it. What brings nothing that is not there already is the
    promotion that brought it. ``stands_at`` is where somebody saw the tag stand: a digest, or ``nowhere``.

    Raises:
        DeniedError: the destination does not take it, and why.
        NameUnknownError, ManifestUnknownError, ConflictError: as
            :func:`~registry.trials.promoting.attempt`; or as many requests wait as can be, or there is no
            repository yet into which somebody could grant it; or the tag does not stand at ``stands_at``.
    """
    async with database.write() as connection:
        tried = await connection.begin_nested()
        made = await attempt(connection, settings, effects, offer)
        seen = made.preview
        if seen.old_digest != seen.digest:
            require_standing(f"{seen.repository}:{seen.tag}", seen.old_digest, stands_at)
        if made.preview.would == "refuse":
            raise refused(made.preview)
        if await takes_two(connection, offer.to.name, _BY_TWO):
            await tried.rollback()
            return await _request(connection, offer, made.preview.old_digest)
        number = await _done_before(connection, offer, made)
        if number is None:
            number = await _insert(connection, offer, made.into.id, made.preview.old_digest)
            await _set_tag(connection, offer, made, number)
        await tried.commit()
        return await show_in(connection, offer.actor, number)


async def grant(
    database: Database,
    settings: Settings,
    effects: Effects,
    *,
    actor: Actor,
    number: int,
    base_url: str,
) -> Promotion:
    """Agree to a promotion that another asked for, and carry it out: judged again, with this actor's rights.

    Raises:
        NotFoundError: there is none, or it is not for the actor to know.
        UnauthorizedError, DeniedError: he asked for it himself or is no user, may not push there, or may not
            pull from where it comes from; or the destination does not take it any more.
        ConflictError: it is no request that waits, or the tag has moved since.
        NameUnknownError, ManifestUnknownError: the source, or the image, is gone.
    """
    row = await find_row(database, actor, number)
    await require_destination(database, settings, actor=actor, name=row.repository)
    _require_open(row)
    if actor.kind != "user":
        raise DeniedError(f"promotion {number} is for a person to grant, and {actor.shown} is none")
    if actor.account_id == row.requested_account_id:
        raise DeniedError(f"{actor.shown} asked for promotion {number}; somebody else has to grant it")
    if not sees_source(actor, row):
        raise DeniedError(
            f"whoever grants promotion {number} must be able to pull from where it comes from, and "
            f"{actor.shown} is not"
        )
    # By its digest, wherever the tag is now.
    offer = await find_offer(
        database,
        settings,
        actor=actor,
        name=row.source_name or row.source,
        tag=None,
        digest=parse_digest(row.digest),
        to=Destination(row.repository, row.tag),
        reason=row.reason,
        base_url=base_url,
    )
    offer = replace(offer, tag=row.source_tag)
    async with database.write() as connection:
        # First, since it locks both repositories in their order.
        made = await attempt(connection, settings, effects, offer)
        _require_open(await lock_row(connection, number))
        if made.preview.old_digest != row.old_digest:
            raise ConflictError(
                f"{row.repository}:{row.tag} has moved since promotion {number} was asked for; ask again"
            )
        if made.preview.would == "refuse":
            raise refused(made.preview)
        await _set_tag(connection, offer, made, number)
        return await show_in(connection, actor, number)


async def end(database: Database, *, actor: Actor, number: int) -> Promotion:
    """Refuse a promotion that somebody asked for, or take back what one asked for oneself.

    Raises:
        NotFoundError: there is none, or it is not for the actor to know.
        UnauthorizedError, DeniedError: the actor may not push there.
        ConflictError: it is no request that waits.
    """
    row = await find_row(database, actor, number)
    await require_or_tell(database, actor, "push", row.repository, row.visibility)
    async with database.write() as connection:
        _require_open(await lock_row(connection, number))
        changed = {"ended_by": actor.shown, "ended_at": db_time()}
        await connection.execute(update(promotions).where(promotions.c.id == number).values(changed))
        ended = await show_in(connection, actor, number)
        await record(connection, "promotion.ended", ended.repository, actor, _told(ended))
        return ended


async def undo(
    database: Database, settings: Settings, effects: Effects, *, actor: Actor, number: int
) -> Promotion:
    """Take the tag back to where it stood before it was promoted, if nobody has moved it since. What came
    along stays, by digest.

    Raises:
        NotFoundError: there is none, or it is not for the actor to know.
        UnauthorizedError, DeniedError: the actor may not push there, or where the tag was new delete there,
            or the registry is read-only.
        ConflictError: it was not carried out, moved nothing, the tag has moved since, or what it stood at is
            gone.
    """
    row = await find_row(database, actor, number)
    await require_destination(database, settings, actor=actor, name=row.repository)
    if row.old_digest is None:
        await require_or_tell(database, actor, "delete", row.repository, row.visibility)
    async with database.write() as connection:
        held = await lock_row(connection, number)
        standing = standing_of(held)
        if standing != "promoted":
            raise ConflictError(f"promotion {number} is {standing}, so there is nothing to undo")
        into = await repos.find_in(connection, held.repository)
        assert into is not None, "its row is locked"
        where = f"{into.name}:{held.tag}"
        if held.move_id is None:
            raise ConflictError(f"promotion {number} moved nothing: {where} stood at {held.digest} already")
        await _require_unmoved(connection, into.id, held)
        said = f"promotion {number} undone"
        if held.old_digest is None:
            await tag_use.drop(connection, into, held.tag, held.digest, actor=actor, reason=said)
        else:
            old = await _manifest(connection, into.id, held.old_digest)
            if old is None:
                raise ConflictError(f"{held.old_digest}, at which {where} stood before, was deleted")
            await tag_use.move(
                connection,
                into,
                held.tag,
                old,
                parse_digest(held.old_digest),
                actor=actor,
                action="rollback",
                reason=said,
            )
            await effects.tag_moved(connection, into.id, old, actor)
        changed = {"undone_by": actor.shown, "undone_at": db_time()}
        await connection.execute(update(promotions).where(promotions.c.id == number).values(changed))
        undone = await show_in(connection, actor, number)
        await record(connection, "promotion.undone", into.name, actor, _told(undone))
        await move_epoch(connection, "content")
        return undone


async def _request(connection: AsyncConnection, offer: Offer, old_digest: str | None) -> Promotion:
    into = await repos.find_in(connection, offer.to.name)
    # What was tried gave its locks back with all else.
    numbers = {offer.source.id} if into is None else {offer.source.id, into.id}
    held = {number: await repos.lock(connection, number) for number in sorted(numbers)}
    if not held[offer.source.id]:
        raise NameUnknownError(f"there is no repository {offer.source.name}")
    if into is None or not held[into.id]:
        raise ConflictError(
            f"somebody else has to grant this, and there is no {offer.to.name} yet; make it first (seatrial "
            f"repo create {offer.to.name})"
        )
    waiting = select(func.count()).where(
        promotions.c.repository_id == into.id,
        promotions.c.promoted_at.is_(None),
        promotions.c.ended_at.is_(None),
        promotions.c.expires_at > db_time(),
    )
    if (await connection.execute(waiting)).scalar_one() >= OPEN_MAX:
        raise ConflictError(f"{OPEN_MAX} promotions into {into.name} wait to be granted; end some first")
    number = await _insert(connection, offer, into.id, old_digest)
    asked = await show_in(connection, offer.actor, number)
    told = {**_told(asked), "expires_at": asked.expires_at.isoformat()}
    await record(connection, "promotion.requested", into.name, offer.actor, told)
    return asked


async def _done_before(connection: AsyncConnection, offer: Offer, made: Attempt) -> int | None:
    """The promotion from the same place that set the tag last, where it stands there and nothing is new."""
    shown = made.preview
    if shown.old_digest != shown.digest or shown.manifests or shown.blobs:
        return None
    here = (promotions.c.repository_id == made.into.id, promotions.c.tag == offer.to.tag)
    last = (
        select(promotions)
        .where(*here, promotions.c.promoted_at.is_not(None))
        .order_by(promotions.c.promoted_at.desc(), promotions.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(last)).first()
    if row is None or row.undone_at is not None:
        return None
    same = (row.digest, row.source_id, row.source_tag) == (shown.digest, offer.source.id, offer.tag)
    return int(row.id) if same else None


async def _insert(connection: AsyncConnection, offer: Offer, into_id: int, old_digest: str | None) -> int:
    made = await connection.execute(
        insert(promotions)
        .values(
            repository_id=into_id,
            tag=offer.to.tag,
            digest=str(offer.digest),
            old_digest=old_digest,
            source=offer.source.name,
            source_id=offer.source.id,
            source_tag=offer.tag,
            reason=offer.reason,
            requested_by=offer.actor.shown,
            requested_account_id=offer.actor.account_id,
            requested_at=db_time(),
            expires_at=db_time(REQUEST_LIFE),
        )
        .returning(promotions.c.id)
    )
    return int(made.scalar_one())


async def _set_tag(connection: AsyncConnection, offer: Offer, made: Attempt, number: int) -> None:
    """The end of a promotion that the destination takes."""
    source, into = offer.source, made.into
    moved = await tag_use.move(
        connection,
        into,
        offer.to.tag,
        made.manifest_id,
        offer.digest,
        actor=offer.actor,
        action="promotion",
        reason=_said(number),
    )
    values = {"promoted_by": offer.actor.shown, "promoted_at": db_time(), "move_id": moved and moved.line}
    await connection.execute(update(promotions).where(promotions.c.id == number).values(values))
    told: dict[str, object] = {
        "promotion": number,
        "tag": offer.to.tag,
        "digest": str(offer.digest),
        "old_digest": made.preview.old_digest,
    }
    # Whoever reads the events of the destination may not know of the source.
    if source.visibility == "public" or (source.visibility == "internal" and into.visibility != "public"):
        told["source"] = offer.shown
    await record(connection, "image.promoted", into.name, offer.actor, told)


def _said(number: int) -> str:
    """What the history says why."""
    return f"promotion {number}"


def _require_open(row: Row[Any]) -> None:
    standing = standing_of(row)
    if standing != "requested":
        raise ConflictError(f"promotion {row.id} is {standing}, and waits for nobody")


async def _require_unmoved(connection: AsyncConnection, repository_id: int, held: Row[Any]) -> None:
    last = (
        select(*(tag_history.c[name] for name in ("id", "actor", "at", "action", "reason")))
        .where(tag_history.c.repository_id == repository_id, tag_history.c.name == held.tag)
        .order_by(tag_history.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(last)).first()
    if row is None:
        raise ConflictError(f"{held.repository}:{held.tag} was deleted since promotion {held.id}")
    # The number alone is another line's where SQLite has given it twice.
    if (row.id, row.action, row.reason) != (held.move_id, "promotion", _said(held.id)):
        raise ConflictError(
            f"{held.repository}:{held.tag} was moved since promotion {held.id}, by {row.actor} on "
            f"{row.at:%Y-%m-%d %H:%M} UTC; seatrial tag rollback takes it to where it ever stood"
        )


async def _manifest(connection: AsyncConnection, repository_id: int, digest: str) -> int | None:
    here = (manifests.c.repository_id == repository_id, manifests.c.digest == digest)
    return (await connection.execute(select(manifests.c.id).where(*here))).scalar_one_or_none()


def _told(promotion: Promotion) -> dict[str, object]:
    return {
        "promotion": promotion.id,
        "tag": promotion.tag,
        "digest": promotion.digest,
        "old_digest": promotion.old_digest,
        "requested_by": promotion.requested_by,
        "reason": promotion.reason,
    }
