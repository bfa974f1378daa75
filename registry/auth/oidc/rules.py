"""Workload rules: which jobs of an issuer act as which account here, limited to which scopes, and how long.

A rule gives no more than its account has: roles, disabling and revoking work as for everybody. Whatever
changes a rule ends the tokens that jobs have by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require_admin
from registry.auth.actor import Actor
from registry.auth.administrators import require_unlimited
from registry.auth.oidc.conditions import Condition, require_conditions
from registry.auth.oidc.issuers import (
    conditions_text,
    end_tokens,
    find_issuer,
    require_name,
    stored_conditions,
    told_conditions,
)
from registry.auth.scopes import parse_token_scope
from registry.db.accounts import accounts
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.oidc import issuers, workload_rules
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.oci.conditions import Conditions

MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 60, 3600, 900
MAX_SCOPES = 100
MAX_AUDIENCE = 500


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What an administrator says: jobs of ``issuer`` whose token is for ``audience`` alone, and whose claims
    meet all ``conditions``, act as ``account`` within ``scopes`` for ``seconds``."""

    issuer: str
    audience: str
    conditions: tuple[Condition, ...]
    account: str
    scopes: tuple[str, ...]
    seconds: int = DEFAULT_SECONDS


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as its row says."""

    id: int
    name: str
    settings: RuleSettings
    created_at: datetime

    @property
    def etag(self) -> str:
        """Entity tag of what can be changed."""
        told = json.dumps([self.id, told_rule(self)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:32]


async def create_rule(database: Database, *, actor: Actor, name: str, settings: RuleSettings) -> Rule:
    """Let jobs in.

    Raises:
        DeniedError: the actor is no administrator, or came with a limited token.
        RequestInvalidError: a name or value that is not allowed.
        NotFoundError: there is no such issuer or account.
        ConflictError: the name is taken.
    """
    require_admin(actor)
    require_unlimited(actor, "lets no jobs in")
    require_name(name, "a rule")
    async with database.write() as connection:
        values = {**await _values(connection, settings), "name": name, "created_at": db_time()}
        made = await connection.execute(
            insert_ignoring_conflict(connection, workload_rules, values).returning(workload_rules.c.id)
        )
        if made.scalar_one_or_none() is None:
            raise ConflictError(f"there is a rule {name!r} already")
        await record(connection, "workload_rule.created", None, actor, _told(settings), target=name)
        return await find_rule(connection, name)


async def list_rules(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[Rule]:
    """At most ``limit`` rules by name, those after ``after``.

    Raises:
        DeniedError: the actor is no administrator.
    """
    require_admin(actor)
    query = RULES.where(workload_rules.c.name > (after or "")).order_by(workload_rules.c.name).limit(limit)
    async with database.read() as connection:
        return [rule_of(row) for row in await connection.execute(query)]


async def show_rule(database: Database, *, actor: Actor, name: str) -> Rule:
    """One rule.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is none of that name.
    """
    require_admin(actor)
    async with database.read() as connection:
        return await find_rule(connection, name)


async def change_rule(
    database: Database, *, actor: Actor, name: str, changes: Mapping[str, Any], conditions: Conditions
) -> Rule:
    """Change what ``changes`` names, members of :class:`RuleSettings`; tokens that jobs have by it end.

    Raises:
        DeniedError: the actor is no administrator, or came with a limited token.
        NotFoundError: there is no such rule, issuer or account.
        RequestInvalidError: a value that is not allowed.
        PreconditionFailedError: one of the conditions does not hold.
    """
    require_admin(actor)
    require_unlimited(actor, "changes no workload rule")
    async with database.write() as connection:
        before = await find_rule(connection, name, lock=True)
        conditions.require(before.etag, f"workload rule {name}")
        members = {each: getattr(before.settings, each) for each in RuleSettings.__dataclass_fields__}
        new = RuleSettings(**{**members, **changes})
        await connection.execute(
            update(workload_rules)
            .where(workload_rules.c.id == before.id)
            .values(await _values(connection, new))
        )
        await end_tokens(connection, workload_rules.c.id == before.id)
        await move_epoch(connection, "access")
        old, now = _told(before.settings), _told(new)
        said = {member: [old[member], now[member]] for member in old if old[member] != now[member]}
        await record(connection, "workload_rule.changed", None, actor, said, target=name)
        return await find_rule(connection, name)


async def delete_rule(database: Database, *, actor: Actor, name: str, conditions: Conditions) -> None:
    """Let its jobs in no longer; the tokens that they have by it end at once.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is none of that name.
        PreconditionFailedError: one of the conditions does not hold.
    """
    require_admin(actor)
    async with database.write() as connection:
        rule = await find_rule(connection, name, lock=True)
        conditions.require(rule.etag, f"workload rule {name}")
        await end_tokens(connection, workload_rules.c.id == rule.id)
        await connection.execute(delete(workload_rules).where(workload_rules.c.id == rule.id))
        await move_epoch(connection, "access")
        await record(
            connection, "workload_rule.deleted", None, actor, {"issuer": rule.settings.issuer}, target=name
        )


async def find_rule(connection: AsyncConnection, name: str, *, lock: bool = False) -> Rule:
    """The rule of that name.

    Raises:
        NotFoundError: there is none.
    """
    query = RULES.where(workload_rules.c.name == name)
    if lock:
        query = query.with_for_update(of=workload_rules)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no workload rule {name[:80]!r}")
    return rule_of(row)


def rule_of(row: Row[Any]) -> Rule:
    """From a row of :data:`RULES`."""
    settings = RuleSettings(
        issuer=row.issuer,
        audience=row.audience,
        conditions=stored_conditions(row.conditions),
        account=row.account,
        scopes=tuple(json.loads(row.scopes)),
        seconds=row.seconds,
    )
    return Rule(row.id, row.name, settings, row.created_at)


def told_rule(rule: Rule) -> dict[str, object]:
    """As JSON shows it, but for its time."""
    return {"name": rule.name, **_told(rule.settings)}


def _told(settings: RuleSettings) -> dict[str, object]:
    return {
        "issuer": settings.issuer,
        "audience": settings.audience,
        "conditions": told_conditions(settings.conditions),
        "account": settings.account,
        "scopes": list(settings.scopes),
        "seconds": settings.seconds,
    }


async def _values(connection: AsyncConnection, settings: RuleSettings) -> dict[str, Any]:
    require_conditions(settings.conditions, least=1)
    if not 1 <= len(settings.audience) <= MAX_AUDIENCE or not settings.audience.isprintable():
        raise RequestInvalidError(f"an audience has 1 to {MAX_AUDIENCE} printable characters")
    if not MIN_SECONDS <= settings.seconds <= MAX_SECONDS:
        raise RequestInvalidError(f"a job's token lives {MIN_SECONDS} to {MAX_SECONDS} seconds")
    if not 1 <= len(settings.scopes) <= MAX_SCOPES:
        raise RequestInvalidError(f"a rule has 1 to {MAX_SCOPES} scopes")
    scopes = [parse_token_scope(text) for text in settings.scopes]
    if any(scope.type != "repository" for scope in scopes):
        raise RequestInvalidError("the scopes of a rule are for repositories: repository:NAME:ACTIONS")
    issuer = await find_issuer(connection, settings.issuer)
    found = await connection.execute(
        select(accounts.c.id)
        .where(accounts.c.name == settings.account, accounts.c.kind.in_(("robot", "user")))
        .with_for_update(read=True)
    )
    account_id = found.scalar_one_or_none()
    if account_id is None:
        raise NotFoundError(f"there is no robot and no user {settings.account[:80]!r}")
    return {
        "issuer_id": issuer.id,
        "account_id": account_id,
        "audience": settings.audience,
        "conditions": conditions_text(settings.conditions),
        "scopes": json.dumps(list(dict.fromkeys(str(scope) for scope in scopes))),
        "seconds": settings.seconds,
    }


RULES: Select[Any] = (
    select(
        workload_rules.c.id,
        workload_rules.c.name,
        workload_rules.c.audience,
        workload_rules.c.conditions,
        workload_rules.c.scopes,
        workload_rules.c.seconds,
        workload_rules.c.account_id,
        workload_rules.c.created_at,
        issuers.c.name.label("issuer"),
        accounts.c.name.label("account"),
        accounts.c.kind.label("account_kind"),
        issuers.c.run_url,
        issuers.c.commit_claim,
    )
    .join(issuers, issuers.c.id == workload_rules.c.issuer_id)
    .join(accounts, accounts.c.id == workload_rules.c.account_id)
)
"""Rules with what their issuer and account say."""
