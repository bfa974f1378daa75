"""API tokens replaced, narrowed and revoked.

Revoking a token also ends the tokens that were made with it, and theirs, and those that it stands in for:
whoever stole one keeps nothing that he got by it. Who wants another secret and nothing ended rotates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, case, or_, select, true, update

from registry.auth.access import require_admin
from registry.auth.networks import Networks, lie_within, parse_networks, stored_networks, to_store
from registry.auth.policy import may_administer
from registry.auth.scopes import parse_token_scope
from registry.auth.standing import JUST_AFTER
from registry.auth.tokenrights import (
    Bounds,
    bounds_of,
    find_owner,
    require_account_holder,
    require_no_stronger,
)
from registry.auth.tokens import (
    ApiToken,
    NewToken,
    Wanted,
    find_token,
    insert_token,
    record_token,
    require_name,
)
from registry.db.accounts import accounts, tokens
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record, record_all
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.settings import Settings

OVERLAP_SECONDS = 3600
MAX_OVERLAP_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class TokenChange:
    """What to change; ``None`` leaves it. Networks become fewer, the end comes sooner, never the reverse."""

    name: str | None = None
    networks: Sequence[str] | None = None
    expires_at: datetime | None = None


async def rotate_token(
    database: Database, settings: Settings, *, actor: Actor, token_id: str, overlap_seconds: int
) -> NewToken:
    """Replace a token by one with the same name, scopes and networks, that lives as long as the old one was
    made for; the old one works for ``overlap_seconds`` more.

    Raises:
        NotFoundError: there is no such token, or it is another's.
        DeniedError: it is stronger than what the actor came with.
        ConflictError: it was replaced already, or works no more.
        RequestInvalidError: an overlap that is not allowed.
    """
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        raise RequestInvalidError(f"the old token works for 0 to {MAX_OVERLAP_SECONDS} seconds more")
    require_account_holder(actor)
    async with database.write() as connection:
        found = await find_token(connection, actor, token_id, to_change=True)
        old, owner = found.token, found.owner
        if old.state != "active":
            raise ConflictError(f"the token {old.id} is {old.state}; make a new one")
        if old.replaced_by is not None:
            raise ConflictError(f"the token {old.id} was replaced by {old.replaced_by} already")
        bounds = await bounds_of(connection, actor)
        scopes = None if old.scopes is None else tuple(map(parse_token_scope, old.scopes))
        networks = await _networks(connection, old.id)
        require_no_stronger(bounds, actor, scopes=scopes, networks=networks)
        await connection.execute(
            update(tokens)
            .where(tokens.c.id == old.id)
            .values(expires_at=_sooner(db_time(timedelta(seconds=overlap_seconds))))
        )
        made = await insert_token(
            connection,
            Wanted(
                account_id=owner.id,
                name=old.name,
                scopes=old.scopes,
                networks=networks,
                expires_at=await _new_end(connection, settings, old, bounds),
                made_by=old.made_by,
                replaces=old.id,
            ),
        )
        await record_token(connection, "token.rotated", actor, owner, made.token)
        await move_epoch(connection, "access")
        return made


async def change_token(
    database: Database,
    *,
    actor: Actor,
    token_id: str,
    wanted: TokenChange,
    conditions: Conditions = NO_CONDITIONS,
) -> ApiToken:
    """Give a token another name, fewer networks or an earlier end.

    Raises:
        NotFoundError: there is no such token, or it is another's.
        DeniedError: it would be stronger than it was.
        RequestInvalidError: a name, network or time that is not allowed.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    networks = None if wanted.networks is None else parse_networks(wanted.networks)
    if wanted.name is not None:
        require_name(wanted.name)
    async with database.write() as connection:
        found = await find_token(connection, actor, token_id, to_change=True)
        token = found.token
        conditions.require(token.etag, f"token {token.id}")
        if networks is not None and not lie_within(networks, await _networks(connection, token.id)):
            raise DeniedError(
                f"the token {token.id} may be used from {', '.join(token.networks or ())} only, and gets no "
                "other networks; make a new one"
            )
        ends = wanted.expires_at
        if ends is not None and token.expires_at is not None and ends > token.expires_at:
            raise DeniedError(
                f"the token {token.id} ends at {token.expires_at:%Y-%m-%d %H:%M} UTC and not later; rotate it"
            )
        values: dict[str, Any] = {
            "name": wanted.name,
            "networks": to_store(networks),
            "expires_at": ends,
        }
        values = {column: value for column, value in values.items() if value is not None}
        if values:
            await connection.execute(update(tokens).where(tokens.c.id == token.id).values(values))
        changed = (await find_token(connection, actor, token_id)).token
        if changed != token:
            await record_token(connection, "token.changed", actor, found.owner, changed)
            await move_epoch(connection, "access")
        return changed


async def revoke_token(database: Database, *, actor: Actor, token_id: str) -> None:
    """Let a token open nothing from now on, nor what was made with it: tokens, registry tokens, sessions.

    Raises:
        NotFoundError: there is no such token, or it is another's and the actor no administrator.
        DeniedError: the actor's credential is limited to other things.
    """
    async with database.write() as connection:
        found = await find_token(connection, actor, token_id)
        await revoke(connection, actor, tokens.c.id == found.token.id)
        await move_epoch(connection, "access")


async def revoke_issued_before(
    database: Database, *, actor: Actor, account: str | None, before: datetime | None
) -> int:
    """Let nothing of an account, or for ``None`` of everybody, that was issued before a time, or till now,
    open anything: API tokens and those made with them, registry tokens, refresh tokens, sessions. Passwords
    stay. How many API tokens.

    Raises:
        DeniedError: the account is another's, or the actor's credential is limited.
        NotFoundError: there is no such account.
        RequestInvalidError: the time is still to come.
    """
    if account is None:
        require_admin(actor)
    if actor.scopes is not None and not may_administer(actor):
        raise DeniedError(f"a limited token of {actor.shown} revokes only itself and what was made with it")
    async with database.write() as connection:
        owner = None if account is None else await find_owner(connection, actor, account)
        mine, issued = (
            (true(), true())
            if owner is None
            else (accounts.c.id == owner.id, tokens.c.account_id == owner.id)
        )
        # Whoever is signing in holds the account: what that makes is there before the time is read.
        await connection.execute(select(accounts.c.id).where(mine).order_by(accounts.c.id).with_for_update())
        now: datetime = (await connection.execute(select(db_time()))).scalar_one()
        if before is not None and before > now:
            raise RequestInvalidError(f"before: {before.isoformat()} is still to come")
        at = before or now + JUST_AFTER
        count = await revoke(connection, actor, issued & (tokens.c.created_at < at))
        # Never back: what was void stays so.
        after = accounts.c.credentials_after
        await connection.execute(
            update(accounts).where(mine, or_(after.is_(None), after < at)).values(credentials_after=at)
        )
        place = f"{owner.namespace}/" if owner is not None and owner.namespace else None
        data = {"before": at.isoformat(), "tokens": count}
        await record(connection, "credentials.revoked", place, actor, data, target=account)
        await move_epoch(connection, "access")
        return count


async def revoke(connection: AsyncConnection, actor: Actor, seeds: ColumnElement[bool]) -> int:
    """Revoke these, all made with them, and those that they replace, in a transaction that moves the access
    epoch; how many worked until now."""
    # Whoever makes a token holds the one that he makes it with: after this nobody makes one with these.
    await connection.execute(select(tokens.c.id).where(seeds).order_by(tokens.c.id).with_for_update())
    family = select(tokens.c.id, tokens.c.replaces).where(seeds).cte("family", recursive=True)
    below = select(tokens.c.id, tokens.c.replaces).join(
        family, or_(tokens.c.made_by == family.c.id, tokens.c.id == family.c.replaces)
    )
    family = family.union(below)
    revoking = (
        update(tokens)
        .where(tokens.c.id.in_(select(family.c.id)), tokens.c.revoked_at.is_(None))
        .values(revoked_at=db_time())
        .returning(tokens.c.id, tokens.c.name)
    )
    count = 0
    # Again until there is none: one may have been made with another of them while this waited for it.
    while rows := (await connection.execute(revoking)).all():
        count += len(rows)
        for row in rows:
            await record_all(connection, "token.revoked", None, actor, [{"name": row.name}], target=row.id)
    return count


async def _networks(connection: AsyncConnection, token_id: str) -> Networks | None:
    kept = await connection.execute(select(tokens.c.networks).where(tokens.c.id == token_id))
    return stored_networks(kept.scalar_one())


async def _new_end(
    connection: AsyncConnection, settings: Settings, old: ApiToken, bounds: Bounds
) -> datetime | None:
    """When the successor of a token ends: it lives as long as the old one was made for, but not longer than
    the settings allow, than the token that somebody rotates it with, and than the one that it was made with.
    """
    lives = None if old.expires_at is None else old.expires_at - old.created_at
    longest = timedelta(days=settings.api_token_max_days) if settings.api_token_max_days else None
    shortest = min((each for each in (lives, longest) if each is not None), default=None)
    now: datetime = (await connection.execute(select(db_time()))).scalar_one()
    ends = (
        None if shortest is None else now + shortest,
        bounds.expires_at,
        await _end_of_maker(connection, old),
    )
    return min((end for end in ends if end is not None), default=None)


async def _end_of_maker(connection: AsyncConnection, token: ApiToken) -> datetime | None:
    """When the token ends that this one was made with, or the last that stands in for that."""
    chain = select(tokens.c.id, tokens.c.expires_at).where(tokens.c.id == (token.made_by or ""))
    successors = chain.cte("chain", recursive=True)
    successors = successors.union(
        select(tokens.c.id, tokens.c.expires_at).join(successors, tokens.c.replaces == successors.c.id)
    )
    newest = select(successors.c.expires_at).order_by(successors.c.id.desc()).limit(1)
    end: datetime | None = (await connection.execute(newest)).scalar_one_or_none()
    return end


def _sooner(end: Any) -> ColumnElement[datetime]:
    current = tokens.c.expires_at
    return case((current < end, current), else_=end)
