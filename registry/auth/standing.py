"""How an account stands: its row, the API token it came with, and its roles, in one statement.

Whoever is disabled, revoked or expired has no rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.accountnames import namespace_of_robot
from registry.auth.actor import Actor, Role, stored_workload
from registry.auth.networks import Networks, in_both, is_in, stored_networks
from registry.auth.policy import ROLES
from registry.auth.scopes import Scope, parse_token_scope
from registry.db.access import grants, group_members, namespaces
from registry.db.accounts import accounts, tokens, workers
from registry.db.content import repositories
from registry.db.oidc import workload_tokens
from registry.db.types import db_time
from registry.errors import UnauthorizedError


def actor_of(rows: Sequence[Row[Any]]) -> Actor:
    """The actor whom the rows of one of the statements below tell of: one for each role, at least one."""
    first = rows[0]
    roles: dict[str, Role] = {}
    for row in rows:
        if row.role is not None and _may_hold(first, row.role_on):
            held = cast("Role", row.role)
            roles[row.role_on] = max(held, roles.get(row.role_on, held), key=ROLES.index)
    with_token = "token_id" in first._fields
    return Actor(
        kind=first.kind,
        name=first.name,
        account_id=first.id,
        is_admin=first.is_admin,
        is_auditor=first.is_auditor,
        roles=MappingProxyType(roles),
        token_id=first.token_id if with_token else None,
        scopes=stored_scopes(first.scopes) if with_token else None,
        networks=_networks(first) if with_token else None,
        credentials_after=first.credentials_after,
        workload=stored_workload(first.workload) if with_token else None,
    )


def _may_hold(account: Row[Any], on: str) -> bool:
    # A repository may have moved away from the namespace that a robot belongs to.
    return account.kind != "robot" or on.startswith(f"{namespace_of_robot(account.name)}/")


async def hold_account(connection: AsyncConnection, actor: Actor) -> bool:
    """Whether the account is enabled and its credentials are those of when the request came; that stays so
    until the transaction ends. A password may have been looked at for long, and reset meanwhile."""
    held = await connection.execute(
        select(accounts.c.id)
        .where(
            accounts.c.id == actor.account_id,
            accounts.c.disabled_at.is_(None),
            accounts.c.credentials_after.is_not_distinct_from(actor.credentials_after),
        )
        .with_for_update(read=True)
    )
    return held.first() is not None


def still_good(created_at: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether what an account was given at that time is not of those that were revoked.

    ``credentials_after`` is the first moment that was not: whoever revokes till now gives the one after now.
    What was issued in the same tick, which on SQLite is a millisecond, may have been issued for the old
    password.
    """
    return or_(accounts.c.credentials_after.is_(None), created_at >= accounts.c.credentials_after)


JUST_AFTER = timedelta(microseconds=1)
"""What is issued in this very moment is revoked by a revocation till now."""


def stored_scopes(text: str | None) -> tuple[Scope, ...] | None:
    """The scopes of a token's row; ``None`` is everything its account may do."""
    return None if text is None else tuple(parse_token_scope(scope) for scope in json.loads(text))


def require_place(actor: Actor, address: str | None) -> None:
    """Let the actor's credential be used from ``address``.

    Raises:
        UnauthorizedError: it is limited to networks, and the address lies in none of them.
    """
    if actor.networks is not None and not is_in(address, actor.networks):
        raise UnauthorizedError(
            f"the token of {actor.shown} may not be used from {address or 'an address that nobody knows'}: "
            "it is limited to certain networks"
        )


def _networks(row: Row[Any]) -> Networks | None:
    return in_both(stored_networks(row.networks), stored_networks(row.worker_networks))


def _with_roles(account_id: ColumnElement[Any], *columns: ColumnElement[Any]) -> Select[Any]:
    """The account of that number and ``columns``, once for each of its roles."""
    own = select(grants.c.namespace_id, grants.c.repository_id, grants.c.role)
    of_groups = own.join(group_members, group_members.c.group_id == grants.c.group_id)
    held = union_all(
        own.where(grants.c.account_id == account_id),
        of_groups.where(group_members.c.account_id == account_id),
    ).subquery("held")
    return (
        select(
            accounts.c.id,
            accounts.c.name,
            accounts.c.kind,
            accounts.c.is_admin,
            accounts.c.is_auditor,
            accounts.c.password_hash,
            accounts.c.credentials_after,
            *columns,
            func.coalesce(repositories.c.name, namespaces.c.name + "/").label("role_on"),
            held.c.role,
        )
        .select_from(accounts)
        .outerjoin(held, held.c.role.is_not(None))
        .outerjoin(namespaces, namespaces.c.id == held.c.namespace_id)
        .outerjoin(repositories, repositories.c.id == held.c.repository_id)
        .where(accounts.c.id == account_id, accounts.c.disabled_at.is_(None))
    )


def _with_token(which: ColumnElement[bool]) -> Select[Any]:
    account_id = select(tokens.c.account_id).where(which).scalar_subquery()
    microseconds_left = type_coerce(tokens.c.expires_at, BigInteger) - type_coerce(db_time(), BigInteger)
    return (
        _with_roles(
            account_id,
            tokens.c.id.label("token_id"),
            tokens.c.scopes,
            tokens.c.networks,
            workers.c.networks.label("worker_networks"),
            workload_tokens.c.workload,
            microseconds_left.label("microseconds_left"),
        )
        .join(tokens, tokens.c.account_id == accounts.c.id)
        .outerjoin(workers, workers.c.account_id == accounts.c.id)
        .outerjoin(workload_tokens, workload_tokens.c.token_id == tokens.c.id)
        .where(
            which,
            tokens.c.revoked_at.is_(None),
            or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > db_time()),
        )
    )


# Put together once: that takes longer than the queries themselves.
BY_ACCOUNT = _with_roles(bindparam("account_id"))
BY_NAME = _with_roles(
    select(accounts.c.id)
    .where(accounts.c.name == bindparam("name"), accounts.c.kind == "user")
    .scalar_subquery()
)
BY_TOKEN = _with_token(tokens.c.id == bindparam("token_id")).where(accounts.c.id == bindparam("account_id"))
BY_SECRET = _with_token(tokens.c.secret_hash == bindparam("secret_hash"))
