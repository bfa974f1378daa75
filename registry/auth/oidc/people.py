"""Which user somebody is who has signed in with an issuer, and what his groups there give him here.

Issuer and ``sub`` tell who it is. A name or an address that a token brings is never a way into an account
that is there already; at most it names a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.accountnames import parse_user_name
from registry.auth.actor import Actor
from registry.auth.administrators import enabled_administrators
from registry.auth.oidc.issuers import Issuer
from registry.auth.oidc.signed import Claims, TokenRefusedError
from registry.db.access import group_members, groups
from registry.db.accounts import accounts
from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.oidc import identities
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import RequestInvalidError, UnauthorizedError

_ADMINISTRATOR, _AUDITOR = "administrator", "auditor"


async def account_of(
    connection: AsyncConnection, issuer: Issuer, claims: Claims, *, address: str | None, client: str | None
) -> int:
    """The number of the user's account, with groups and roles as the claims say, in the caller's transaction.

    Raises:
        UnauthorizedError: he is no user here, and is not made one; or the account is disabled.
    """
    subject = str(claims["sub"])
    # Before any other account, as whoever changes administrators holds them: neither then waits for ever.
    is_mapped = _ADMINISTRATOR in issuer.settings.roles.values()
    admins = await enabled_administrators(connection) if is_mapped else frozenset()
    row = await _linked(connection, issuer, subject)
    if row is None:
        row = await _first_sign_in(connection, issuer, claims, subject, address=address, client=client)
    if row.disabled_at is not None:
        raise UnauthorizedError(f"the account {row.name} is disabled")
    await connection.execute(
        update(identities)
        .where(identities.c.issuer_id == issuer.id, identities.c.subject == subject)
        .values(last_used_at=db_time())
    )
    person = _actor(row, address, client)
    told = _groups_told(issuer, claims)
    changed = await _set_groups(connection, issuer, person, told)
    changed |= await _set_roles(connection, issuer, row, person, told, admins=admins)
    if changed:
        await move_epoch(connection, "access")
    return int(row.id)


async def _linked(connection: AsyncConnection, issuer: Issuer, subject: str) -> Row[Any] | None:
    query: Select[Any] = (
        select(
            accounts.c.id,
            accounts.c.name,
            accounts.c.is_admin,
            accounts.c.is_auditor,
            accounts.c.disabled_at,
        )
        .join(identities, identities.c.account_id == accounts.c.id)
        .where(
            identities.c.issuer_id == issuer.id, identities.c.subject == subject, accounts.c.kind == "user"
        )
        .with_for_update(of=accounts)
    )
    row: Row[Any] | None = (await connection.execute(query)).one_or_none()
    return row


async def _first_sign_in(
    connection: AsyncConnection,
    issuer: Issuer,
    claims: Claims,
    subject: str,
    *,
    address: str | None,
    client: str | None,
) -> Row[Any]:
    link = f"an administrator can let it be one: issuer link {issuer.name} {subject} USER"
    if not issuer.settings.create_accounts:
        raise UnauthorizedError(f"{subject} of {issuer.name} is no user here; {link}")
    told = claims.get(issuer.settings.name_claim)
    name = told.partition("@")[0].lower() if isinstance(told, str) else ""
    try:
        parse_user_name(name)
    except RequestInvalidError:
        raise UnauthorizedError(
            f"{issuer.settings.name_claim} of {issuer.name} names no account that can be made here; {link}"
        ) from None
    values = {"name": name, "kind": "user", "is_admin": False, "created_at": db_time()}
    made = await connection.execute(
        insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
    )
    account_id = made.scalar_one_or_none()
    if account_id is None:
        # Whoever had the name before is somebody else, whatever the issuer calls this one.
        raise UnauthorizedError(f"there is an account {name} already, which may be another's; {link}")
    identity = {
        "issuer_id": issuer.id,
        "subject": subject,
        "account_id": account_id,
        "created_at": db_time(),
    }
    linked = await connection.execute(
        insert_ignoring_conflict(connection, identities, identity).returning(identities.c.subject)
    )
    if linked.scalar_one_or_none() is None:
        raise TokenRefusedError("it signs in twice at this moment")
    row = await _linked(connection, issuer, subject)
    assert row is not None
    person = _actor(row, address, client)
    said = {"issuer": issuer.name, "subject": subject}
    await record(connection, "user.created", None, person, said, target=name)
    await record(connection, "identity.linked", None, person, said, target=name)
    return row


def _groups_told(issuer: Issuer, claims: Claims) -> frozenset[str]:
    """The values of the claim that mean something here: of a list of any length only those are kept."""
    told = claims.get(issuer.settings.groups_claim) if issuer.settings.groups_claim else None
    entries: list[object] = told if isinstance(told, list) else [told]
    known = {*issuer.settings.groups, *issuer.settings.roles}
    return frozenset(entry for entry in entries if isinstance(entry, str) and entry in known)


async def _set_groups(
    connection: AsyncConnection, issuer: Issuer, person: Actor, told: frozenset[str]
) -> bool:
    """Make the memberships that come from this issuer those that it tells of; others are left alone."""
    wanted = {issuer.settings.groups[value] for value in told if value in issuer.settings.groups}
    there: dict[str, int] = {}
    for names in batches(sorted(wanted)):
        rows = await connection.execute(select(groups.c.name, groups.c.id).where(groups.c.name.in_(names)))
        there |= {row.name: row.id for row in rows}
    own = (group_members.c.account_id == person.account_id, group_members.c.source == issuer.name)
    before = await connection.execute(
        select(groups.c.name, groups.c.id)
        .join(group_members, group_members.c.group_id == groups.c.id)
        .where(*own)
    )
    held: Mapping[str, int] = {row.name: row.id for row in before}
    gained, lost = sorted(set(there) - set(held)), sorted(set(held) - set(there))
    said, rule = {"member": person.name, "issuer": issuer.name}, f"issuer {issuer.name}"
    for name in gained:
        await connection.execute(
            insert(group_members).values(
                group_id=there[name], account_id=person.account_id, source=issuer.name
            )
        )
        await record(connection, "member.added", None, person, said, target=name, rule=rule)
    for name in lost:
        await connection.execute(delete(group_members).where(*own, group_members.c.group_id == held[name]))
        await record(connection, "member.removed", None, person, said, target=name, rule=rule)
    return bool(gained or lost)


async def _set_roles(
    connection: AsyncConnection,
    issuer: Issuer,
    row: Row[Any],
    person: Actor,
    told: frozenset[str],
    *,
    admins: frozenset[int],
) -> bool:
    """What the issuer decides of administrator and auditor; a role that it does not map is left alone, and so
    is the last of the ``admins``."""
    mapped = issuer.settings.roles
    given = {mapped[value] for value in told if value in mapped}
    wanted = {"is_admin": row.is_admin, "is_auditor": row.is_auditor}
    if _ADMINISTRATOR in mapped.values():
        wanted["is_admin"] = _ADMINISTRATOR in given or admins == {row.id}
    if _AUDITOR in mapped.values():
        wanted["is_auditor"] = _AUDITOR in given
    changes = {name: value for name, value in wanted.items() if value != getattr(row, name)}
    if not changes:
        return False
    await connection.execute(update(accounts).where(accounts.c.id == row.id).values(changes))
    said = {name: [getattr(row, name), value] for name, value in changes.items()}
    await record(
        connection, "user.changed", None, person, said, target=row.name, rule=f"issuer {issuer.name}"
    )
    return True


def _actor(row: Row[Any], address: str | None, client: str | None) -> Actor:
    return Actor(
        kind="user",
        name=row.name,
        account_id=row.id,
        is_admin=row.is_admin,
        address=address,
        client=client,
    )
