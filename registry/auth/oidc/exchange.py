"""A job's token for one of ours (RFC 8693), by the first rule, in the order of names, that it meets.

Ours is an API token like others: limited to the rule's scopes, ended with the rule, its account or by hand,
and taken by every client. Who sends the same again gets the same: a job fills no table, and what was revoked
stays so. A job may also send its own token as the password of the user ``oidc``: at first
sight it is checked and becomes a token of ours as it is, under its hash, and from then on stands for as long
as the rule says, also past its own end, so that a push that takes long ends well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Row, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from registry.auth.actor import Actor
from registry.auth.apitokens import token_from, token_hash
from registry.auth.ceilings import is_full
from registry.auth.oidc.conditions import missing
from registry.auth.oidc.directory import IssuerUnavailableError
from registry.auth.oidc.issuers import stored_conditions
from registry.auth.oidc.jobs import workload_of
from registry.auth.oidc.opened import Oidc
from registry.auth.oidc.rules import RULES
from registry.auth.oidc.signed import Claims, TokenRefusedError, audiences, canonical, peek
from registry.auth.scopes import parse_token_scope
from registry.auth.tombstones import names_of
from registry.db.access import tombstones
from registry.db.accounts import accounts, tokens
from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.oidc import issuers, workload_rules, workload_tokens
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import TooManyRequestsError

USER = "oidc"
"""The user name with which a job's own token is a password."""
_KEPT = timedelta(days=2)
"""How long a revoked token's row stays: longer than a job's own may live, so that one is known as revoked."""
_TOLD = timedelta(hours=1)
"""How long a token that has ended by itself is known: whoever still sends it is told when it ended."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class JobToken:
    """A token of ours for a job; ``text`` is shown once."""

    text: str
    scopes: tuple[str, ...]
    seconds: int
    actor: Actor


async def exchange(oidc: Oidc, text: str, *, address: str | None) -> JobToken:
    """A token of ours for a job's token ``text``.

    Raises:
        TokenRefusedError: it is not valid, or meets no rule.
        IssuerUnavailableError: its issuer cannot be asked for its keys.
        TooManyRequestsError: its rule has given as many tokens as it may.
    """
    return await _exchanged(oidc, text, as_it_stands=False, address=address)


async def admit(oidc: Oidc, text: str, *, address: str | None) -> None:
    """Let a job's token stand as it is, under its hash.

    Raises:
        TokenRefusedError, IssuerUnavailableError, TooManyRequestsError: as above; or it was revoked here.
    """
    await _exchanged(oidc, text, as_it_stands=True, address=address)


async def _exchanged(oidc: Oidc, text: str, *, as_it_stands: bool, address: str | None) -> JobToken:
    text = canonical(text)  # else it would be another token, and revoked as this one it would still be good
    try:
        claims = await trusted_claims(oidc, text)
        return await _give(oidc, claims, text, as_it_stands=as_it_stands, address=address)
    except TokenRefusedError as error:
        # Whoever sent it is told nothing that would help him to guess; whoever set it up looks here.
        _log.info("workload.refused", reason=error.why, address=address)
        raise


async def trusted_claims(oidc: Oidc, text: str) -> Claims:
    """The claims of a token of one of the issuers that are trusted.

    Raises:
        TokenRefusedError, IssuerUnavailableError: as above.
    """
    told = peek(text)
    async with oidc.database.read_once() as connection:
        found = await connection.execute(select(issuers.c.id).where(issuers.c.url == told.issuer))
        if found.first() is None:
            raise TokenRefusedError("its issuer is none of those that are trusted")
    try:
        return await oidc.directory.verified(text, told)
    except IssuerUnavailableError as error:
        _log.warning("workload.issuer_unavailable", issuer=told.issuer, reason=error.why)
        raise


async def _give(
    oidc: Oidc, claims: Claims, text: str, *, as_it_stands: bool, address: str | None
) -> JobToken:
    async with oidc.database.write() as connection:
        rule = await _rule_for(connection, claims)
        workload = workload_of(
            claims,
            issuer=rule.issuer,
            rule=rule.name,
            run_url=rule.run_url,
            commit_claim=rule.commit_claim,
        )
        scopes = await _scopes_left(connection, rule)
        secret = text if as_it_stands else _ours(oidc, text, rule, scopes)
        hashed = token_hash(secret)
        await _require_not_revoked(connection, {hashed, token_hash(text)})
        await _forget_ended(connection, rule.id)
        mine = select(workload_tokens.c.token_id).where(workload_tokens.c.rule_id == rule.id)
        actor = Actor(
            kind=rule.account_kind,
            name=rule.account,
            account_id=rule.account_id,
            token_id=await _standing(connection, hashed, rule),
            address=address,
            workload=workload,
        )
        if actor.token_id is None:
            if await is_full(connection, mine, oidc.tokens_per_rule, of=f"tokens of rule {rule.id}"):
                raise TooManyRequestsError(
                    f"the rule {rule.name} has given {oidc.tokens_per_rule} jobs a token in the last hours, "
                    "which is the limit; send again what you have, or wait",
                    headers={"Retry-After": "600"},
                )
            await _insert(connection, hashed, rule, actor, scopes)
    return JobToken(secret, scopes, rule.seconds, actor)


def _ours(oidc: Oidc, text: str, rule: Row[Any], scopes: Sequence[str]) -> str:
    """The one token that a job gets for its own by this rule, as long as it opens the same."""
    told = json.dumps([rule.id, scopes, text]).encode()
    return token_from(oidc.secret_key.derive(told, name="job"))


async def _insert(
    connection: AsyncConnection, hashed: str, rule: Row[Any], actor: Actor, scopes: Sequence[str]
) -> None:
    values = {
        "id": str(uuid7()),
        "account_id": rule.account_id,
        "name": f"job by rule {rule.name}",
        "secret_hash": hashed,
        "scopes": json.dumps(scopes),
        "created_at": db_time(),
        "expires_at": db_time(timedelta(seconds=rule.seconds)),
    }
    made = await connection.execute(
        insert_ignoring_conflict(connection, tokens, values).returning(tokens.c.id)
    )
    token_id = made.scalar_one_or_none()
    if token_id is None:
        return  # the same token, sent to another replica in this moment
    await connection.execute(
        insert(workload_tokens).values(
            token_id=token_id, rule_id=rule.id, workload=actor.workload_text, created_at=db_time()
        )
    )
    await record(connection, "token.created", None, actor, {"rule": rule.name}, target=token_id)


async def _scopes_left(connection: AsyncConnection, rule: Row[Any]) -> tuple[str, ...]:
    """The rule's scopes without repositories that were given up after it was made: what has their names now
    is something else.

    Raises:
        TokenRefusedError: none is left.
    """
    scopes = tuple(parse_token_scope(text) for text in json.loads(rule.scopes))
    void: set[str] = set()
    for names in batches(names_of(scopes)):
        query = select(tombstones.c.name).where(
            tombstones.c.name.in_(names), tombstones.c.deleted_at >= rule.created_at
        )
        void |= set((await connection.execute(query)).scalars())
    left = tuple(str(scope) for scope in scopes if scope.name not in void)
    if not left:
        raise TokenRefusedError(f"the repositories of the rule {rule.name} were given up; make it anew")
    return left


async def _rule_for(connection: AsyncConnection, claims: Claims) -> Row[Any]:
    told = audiences(claims)
    if len(told) != 1:
        raise TokenRefusedError("it is for several audiences, and has to be for one alone")
    query = (
        RULES.where(issuers.c.url == claims["iss"], workload_rules.c.audience == told[0])
        .where(accounts.c.disabled_at.is_(None))
        .order_by(workload_rules.c.name)
        # Whoever changes or deletes the rule waits, and then finds the token to end.
        .with_for_update(read=True, of=workload_rules)
    )
    row: Row[Any]
    for row in await connection.execute(query):
        if not missing(stored_conditions(row.conditions), claims):
            return row
    raise TokenRefusedError("it meets no rule of its issuer")


async def _standing(connection: AsyncConnection, hashed: str, rule: Row[Any]) -> str | None:
    """The id of the token that a job's own became, or was given for it, before; its time begins anew."""
    renewed = await connection.execute(
        update(tokens)
        .where(tokens.c.secret_hash == hashed)
        .values(expires_at=db_time(timedelta(seconds=rule.seconds)))
        .returning(tokens.c.id)
    )
    token_id: str | None = renewed.scalar_one_or_none()
    return token_id


async def _require_not_revoked(connection: AsyncConnection, hashes: Iterable[str]) -> None:
    query = select(tokens.c.revoked_at).where(tokens.c.secret_hash.in_(sorted(hashes))).with_for_update()
    if any((await connection.execute(query)).scalars()):
        raise TokenRefusedError("it was revoked")


async def _forget_ended(connection: AsyncConnection, rule_id: int) -> None:
    old = select(workload_tokens.c.token_id).where(
        workload_tokens.c.rule_id == rule_id, workload_tokens.c.created_at < db_time(-_TOLD)
    )
    over = or_(
        and_(tokens.c.revoked_at.is_(None), tokens.c.expires_at < db_time(-_TOLD)),
        tokens.c.expires_at < db_time(-_KEPT),
    )
    await connection.execute(delete(tokens).where(tokens.c.id.in_(old), over))
