"""Issuers: whose people sign in here and whose jobs get tokens; made, changed and listed by administrators.

The client secret is wrapped and never shown again, and another address has another one: changing the address
forgets it, and who was whom there, and ends the tokens of its jobs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require_admin
from registry.auth.actor import Actor
from registry.auth.administrators import require_unlimited
from registry.auth.oidc.conditions import Condition, require_conditions
from registry.auth.oidc.jobs import require_run_url
from registry.auth.oidc.opened import Oidc
from registry.db.access import group_members, groups
from registry.db.accounts import tokens
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.oidc import identities, issuers, workload_rules, workload_tokens
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.net.guarded import OutgoingError, require_url
from registry.oci.conditions import Conditions

MAX_MAPPED = 1000
MAX_TEXT = 500
RoleGiven = Literal["administrator", "auditor"]
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_JSON = ("scopes", "groups", "roles")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """What an administrator says of an issuer. ``client_id`` ``None``: no person signs in with it. ``groups``
    and ``roles`` are given by values of ``groups_claim`` to whoever signs in, and taken at the next sign-in
    without them. ``run_url`` has claims in braces."""

    url: str
    client_id: str | None = None
    scopes: tuple[str, ...] = ("profile",)
    name_claim: str = "preferred_username"
    groups_claim: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, RoleGiven] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    create_accounts: bool = False
    run_url: str | None = None
    commit_claim: str | None = "sha"


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer as its row says; the client secret is not among it."""

    id: int
    name: str
    settings: IssuerSettings
    has_secret: bool
    created_at: datetime
    etag: str


async def create_issuer(
    oidc: Oidc, *, actor: Actor, name: str, settings: IssuerSettings, client_secret: str | None
) -> Issuer:
    """Trust an issuer.

    Raises:
        DeniedError: the actor is no administrator, or came with a limited token.
        RequestInvalidError: a name or value that is not allowed.
        ConflictError: the name or the address is taken.
    """
    require_admin(actor)
    require_unlimited(actor, "trusts no issuer")
    require_name(name, "an issuer")
    values = {**_values(settings), "name": name, "created_at": db_time()}
    if client_secret is not None:
        values["client_secret"] = _wrapped(oidc, settings, client_secret)
    async with oidc.database.write() as connection:
        made = await connection.execute(
            insert_ignoring_conflict(connection, issuers, values).returning(issuers.c.id)
        )
        if made.scalar_one_or_none() is None:
            raise ConflictError(f"there is an issuer {name!r} or one of that address already")
        await record(connection, "issuer.created", None, actor, {"url": settings.url}, target=name)
        return issuer_of((await connection.execute(select(issuers).where(issuers.c.name == name))).one())


async def list_issuers(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[Issuer]:
    """At most ``limit`` issuers by name, those after ``after``.

    Raises:
        DeniedError: the actor is no administrator.
    """
    require_admin(actor)
    query = select(issuers).where(issuers.c.name > (after or "")).order_by(issuers.c.name).limit(limit)
    async with database.read() as connection:
        return [issuer_of(row) for row in await connection.execute(query)]


async def list_for_people(database: Database, *, limit: int) -> list[str]:
    """The names of the issuers that people sign in with, at most ``limit``: anybody may know them."""
    query = select(issuers.c.name).where(issuers.c.client_id.is_not(None)).order_by(issuers.c.name)
    async with database.read_once() as connection:
        return [row.name for row in await connection.execute(query.limit(limit))]


async def show_issuer(database: Database, *, actor: Actor, name: str) -> Issuer:
    """One issuer.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is none of that name.
    """
    require_admin(actor)
    async with database.read() as connection:
        return await find_issuer(connection, name)


async def change_issuer(
    oidc: Oidc,
    *,
    actor: Actor,
    name: str,
    changes: Mapping[str, Any],
    client_secret: str | None,
    conditions: Conditions,
) -> Issuer:
    """Change what ``changes`` names, members of :class:`IssuerSettings`. With another address the secret that
    is there, who was whom and the tokens of jobs are gone. Members that it gave to groups which it maps no
    longer are taken at once: nobody else could take them.

    Raises:
        DeniedError: the actor is no administrator, or came with a limited token.
        NotFoundError: there is none of that name.
        RequestInvalidError: a value that is not allowed.
        ConflictError: another issuer has that address.
        PreconditionFailedError: one of the conditions does not hold.
    """
    require_admin(actor)
    require_unlimited(actor, "changes no issuer")
    async with oidc.database.write() as connection:
        before = await find_issuer(connection, name, lock=True)
        conditions.require(before.etag, f"issuer {name}")
        old = before.settings
        new = IssuerSettings(**{**_members(old), **changes})
        values = _values(new)
        moved = new.url != old.url
        if moved:
            taken = await connection.execute(select(issuers.c.name).where(issuers.c.url == new.url))
            if (other := taken.scalar_one_or_none()) is not None:
                raise ConflictError(f"the issuer {other!r} has that address already")
            values["client_secret"] = None
            await forget_people(connection, before)
            await end_tokens(connection, workload_rules.c.issuer_id == before.id)
        for group in sorted(set(old.groups.values()) - set(new.groups.values())):
            number = select(groups.c.id).where(groups.c.name == group).scalar_subquery()
            await connection.execute(
                delete(group_members).where(
                    group_members.c.group_id == number, group_members.c.source == name
                )
            )
        if client_secret is not None:
            values["client_secret"] = _wrapped(oidc, new, client_secret)
        await connection.execute(update(issuers).where(issuers.c.id == before.id).values(values))
        await move_epoch(connection, "access")
        said: dict[str, object] = {
            member: [shown, _told(new)[member]]
            for member, shown in _told(old).items()
            if shown != _told(new)[member]
        }
        if moved or client_secret is not None:
            said["client_secret"] = "new" if client_secret is not None else "forgotten"
        await record(connection, "issuer.changed", None, actor, said, target=name)
        return await find_issuer(connection, name)


async def delete_issuer(database: Database, *, actor: Actor, name: str, conditions: Conditions) -> None:
    """Trust an issuer no longer: its rules, the tokens of its jobs, and who was whom are gone. Accounts stay.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is none of that name.
        PreconditionFailedError: one of the conditions does not hold.
    """
    require_admin(actor)
    async with database.write() as connection:
        issuer = await find_issuer(connection, name, lock=True)
        conditions.require(issuer.etag, f"issuer {name}")
        await end_tokens(connection, workload_rules.c.issuer_id == issuer.id)
        await forget_people(connection, issuer)
        await connection.execute(delete(issuers).where(issuers.c.id == issuer.id))
        await move_epoch(connection, "access")
        await record(connection, "issuer.deleted", None, actor, {"url": issuer.settings.url}, target=name)


def require_name(text: str, what: str) -> None:
    """Check the name of an issuer or a rule.

    Raises:
        RequestInvalidError: outside the grammar.
    """
    if not _NAME.fullmatch(text):
        raise RequestInvalidError(
            f"{text[:80]!r} is not a name for {what}: 1 to 64 lower-case letters, digits, '.', '_', '-', the "
            "first and last a letter or digit"
        )


async def find_issuer(connection: AsyncConnection, name: str, *, lock: bool = False) -> Issuer:
    """The issuer of that name.

    Raises:
        NotFoundError: there is none.
    """
    query = select(issuers).where(issuers.c.name == name)
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no issuer {name[:80]!r}")
    return issuer_of(row)


async def end_tokens(connection: AsyncConnection, which: Any) -> None:
    """Delete the tokens that jobs have by the rules that ``which`` chooses, in the caller's transaction."""
    of_rules = select(workload_rules.c.id).where(which)
    ended = select(workload_tokens.c.token_id).where(workload_tokens.c.rule_id.in_(of_rules))
    await connection.execute(delete(tokens).where(tokens.c.id.in_(ended)))


async def forget_people(connection: AsyncConnection, issuer: Issuer, *, subject: str | None = None) -> None:
    """Forget who was whom, all or one, and the groups that he had by this issuer, in the caller's
    transaction."""
    which = identities.c.issuer_id == issuer.id
    if subject is not None:
        which &= identities.c.subject == subject
    people = select(identities.c.account_id).where(which)
    await connection.execute(
        delete(group_members).where(
            group_members.c.account_id.in_(people), group_members.c.source == issuer.name
        )
    )
    await connection.execute(delete(identities).where(which))


def issuer_of(row: Row[Any]) -> Issuer:
    """From a row of the table."""
    settings = IssuerSettings(
        url=row.url,
        client_id=row.client_id,
        scopes=tuple(json.loads(row.scopes)),
        name_claim=row.name_claim,
        groups_claim=row.groups_claim,
        groups=json.loads(row.groups),
        roles=json.loads(row.roles),
        conditions=stored_conditions(row.conditions),
        create_accounts=row.create_accounts,
        run_url=row.run_url,
        commit_claim=row.commit_claim,
    )
    etag = hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:32]
    return Issuer(row.id, row.name, settings, row.client_secret is not None, row.created_at, etag)


def secret_of(oidc: Oidc, row: Row[Any]) -> str | None:
    """The client secret of a row, for the issuer's token endpoint and for nothing else.

    Raises:
        SettingsError: it was wrapped with another secret key.
    """
    if row.client_secret is None:
        return None
    return oidc.secret_key.unwrap(row.client_secret, name=_wrap_name(row.url)).decode()


def stored_conditions(text: str) -> tuple[Condition, ...]:
    """The conditions of a row."""
    return tuple(Condition(**each) for each in json.loads(text))


def conditions_text(conditions: tuple[Condition, ...]) -> str:
    """What a row keeps of them."""
    return json.dumps([_condition(each) for each in conditions])


def told_conditions(conditions: tuple[Condition, ...]) -> list[dict[str, str]]:
    """As JSON shows them."""
    return [_condition(each) for each in conditions]


def _condition(condition: Condition) -> dict[str, str]:
    value = {"equals": condition.equals} if condition.equals is not None else {"glob": condition.glob or ""}
    return {"claim": condition.claim, **value}


def _members(settings: IssuerSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in IssuerSettings.__dataclass_fields__}


def _told(settings: IssuerSettings) -> dict[str, object]:
    return {**_members(settings), "conditions": told_conditions(settings.conditions)}


def _values(settings: IssuerSettings) -> dict[str, Any]:
    """The row's values.

    Raises:
        RequestInvalidError: one that is not allowed.
    """
    try:
        require_url(settings.url, "the issuer's address")
    except OutgoingError as error:
        raise RequestInvalidError(f"the issuer's address cannot be used: {error.message}") from None
    require_conditions(settings.conditions, least=0)
    if settings.run_url is not None:
        require_run_url(settings.run_url)
    if len(settings.groups) + len(settings.roles) > MAX_MAPPED:
        raise RequestInvalidError(f"at most {MAX_MAPPED} groups and roles can be mapped")
    if (settings.groups or settings.roles) and settings.groups_claim is None:
        raise RequestInvalidError(
            "groups and roles need groups_claim, the claim that lists a person's groups"
        )
    if not set(settings.roles.values()) <= set(get_args(RoleGiven)):
        raise RequestInvalidError("a role is 'administrator' or 'auditor'")
    texts = [settings.name_claim, settings.groups_claim, settings.client_id, settings.commit_claim]
    texts += [*settings.scopes, *settings.groups, *settings.groups.values(), *settings.roles]
    for text in texts:
        if text is not None and (not 1 <= len(text) <= MAX_TEXT or not text.isprintable()):
            raise RequestInvalidError(f"a value of an issuer has 1 to {MAX_TEXT} printable characters")
    members = _members(settings)
    return {
        **{name: json.dumps(value) if name in _JSON else value for name, value in members.items()},
        "conditions": conditions_text(settings.conditions),
    }


def _wrapped(oidc: Oidc, settings: IssuerSettings, client_secret: str) -> bytes:
    if settings.client_id is None:
        raise RequestInvalidError("a client secret needs a client_id")
    if not 1 <= len(client_secret) <= MAX_TEXT:
        raise RequestInvalidError(f"a client secret has 1 to {MAX_TEXT} characters")
    return oidc.secret_key.wrap(client_secret.encode(), name=_wrap_name(settings.url))


def _wrap_name(url: str) -> str:
    # By address: a row that was changed behind our back has no secret for another one.
    return f"issuer/{url}"
