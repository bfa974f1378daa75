"""Who of an issuer is which user here: linked by hand, or at a first sign-in. ``sub`` tells, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from registry.auth.access import require_admin
from registry.auth.actor import Actor
from registry.auth.administrators import require_unlimited
from registry.auth.oidc.directory import IssuerUnavailableError, Standing
from registry.auth.oidc.issuers import Issuer, find_issuer, forget_people
from registry.auth.oidc.opened import Oidc
from registry.auth.oidc.signed import MAX_SUBJECT
from registry.db.accounts import accounts
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.oidc import identities
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError, UnavailableError


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody of an issuer, and the user that he is here."""

    subject: str
    account: str
    created_at: datetime
    last_used_at: datetime | None


async def check(oidc: Oidc, issuer: Issuer) -> Standing:
    """What an issuer says of itself, and its keys; for the administrator who has been shown it, with the
    reason if nothing that can be used.

    Raises:
        UnavailableError: it cannot be asked, or says something else than it has to.
    """
    try:
        return await oidc.directory.standing(issuer.settings.url)
    except IssuerUnavailableError as error:
        raise UnavailableError(f"the issuer {issuer.name} cannot be used: {error.why}") from None


async def link(database: Database, *, actor: Actor, issuer: str, subject: str, account: str) -> Identity:
    """Let somebody of an issuer be a user here.

    Raises:
        DeniedError: the actor is no administrator, or came with a limited token.
        NotFoundError: there is no such issuer or user.
        RequestInvalidError: no subject.
        ConflictError: he is a user already.
    """
    require_admin(actor)
    require_unlimited(actor, "lets nobody of an issuer be a user")
    if not 1 <= len(subject) <= MAX_SUBJECT or "\0" in subject:
        raise RequestInvalidError(f"a subject has 1 to {MAX_SUBJECT} characters")
    async with database.write() as connection:
        found = await find_issuer(connection, issuer)
        account_id = (
            await connection.execute(
                select(accounts.c.id)
                .where(accounts.c.name == account, accounts.c.kind == "user")
                .with_for_update(read=True)
            )
        ).scalar_one_or_none()
        if account_id is None:
            raise NotFoundError(f"there is no user {account[:80]!r}")
        values = {
            "issuer_id": found.id,
            "subject": subject,
            "account_id": account_id,
            "created_at": db_time(),
        }
        made = await connection.execute(
            insert_ignoring_conflict(connection, identities, values).returning(identities.c.created_at)
        )
        created_at = made.scalar_one_or_none()
        if created_at is None:
            raise ConflictError(f"{subject!r} of {issuer} is a user already")
        said = {"issuer": issuer, "subject": subject}
        await record(connection, "identity.linked", None, actor, said, target=account)
        return Identity(subject, account, created_at, None)


async def list_identities(
    database: Database, *, actor: Actor, issuer: str, limit: int, after: str | None
) -> list[Identity]:
    """At most ``limit`` people of an issuer by subject, those after ``after``.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such issuer.
    """
    require_admin(actor)
    async with database.read() as connection:
        found = await find_issuer(connection, issuer)
        rows = await connection.execute(
            select(
                identities.c.subject,
                accounts.c.name.label("account"),
                identities.c.created_at,
                identities.c.last_used_at,
            )
            .join(accounts, accounts.c.id == identities.c.account_id)
            .where(identities.c.issuer_id == found.id, identities.c.subject > (after or ""))
            .order_by(identities.c.subject)
            .limit(limit)
        )
        return [Identity(**row._asdict()) for row in rows]


async def unlink(database: Database, *, actor: Actor, issuer: str, subject: str) -> None:
    """Let somebody of an issuer sign in as nobody; the user and what he has stay.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such issuer, or nobody of that subject.
    """
    require_admin(actor)
    async with database.write() as connection:
        found = await find_issuer(connection, issuer)
        named = await connection.execute(
            select(accounts.c.name)
            .join(identities, identities.c.account_id == accounts.c.id)
            .where(identities.c.issuer_id == found.id, identities.c.subject == subject)
            .with_for_update()
        )
        name = named.scalar_one_or_none()
        if name is None:
            raise NotFoundError(f"nobody of {issuer} with that subject is a user here")
        await forget_people(connection, found, subject=subject)
        await move_epoch(connection, "access")
        said = {"issuer": issuer, "subject": subject}
        await record(connection, "identity.unlinked", None, actor, said, target=name)
