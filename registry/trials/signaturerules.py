"""Which signatures are required where, as maintainers say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from registry.auth.owners import require_or_tell
from registry.content.administration import find
from registry.db.access import namespaces
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.signatures import signature_rules
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.trials.signatures import match_rule
from registry.trials.verifying import parse_keys

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.auth.policy import Action
    from registry.db.engine import Database

RULES_MAX = 20
"""On one place: each signature that is pushed below is verified against all of them."""


@dataclass(frozen=True, slots=True)
class SignatureRule:
    """Who must have signed what is pulled from a place: who holds the private half of a key, or whom an OIDC
    issuer calls so (``*`` in ``subject`` stands for anything)."""

    id: int
    name: str
    public_pem: str | None
    issuer: str | None
    subject: str | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule to make: a key, or issuer and subject."""

    name: str
    public_pem: str | None
    issuer: str | None
    subject: str | None


async def list_rules(database: Database, *, actor: Actor, on: str) -> Sequence[SignatureRule]:
    """The rules on a repository, or a namespace with a slash at its end; those above count as well.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    column, place_id = await _place(database, actor, "pull", on)
    query = select(*(signature_rules.c[name] for name in SignatureRule.__dataclass_fields__))
    query = query.where(signature_rules.c[column] == place_id).order_by(signature_rules.c.id)
    async with database.read_once() as connection:
        return [SignatureRule(*row) for row in await connection.execute(query)]


async def create(database: Database, *, actor: Actor, on: str, wanted: Wanted) -> SignatureRule:
    """Require a signature from now on, of all that is there as well.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: not a key, nor an issuer with a subject.
        ConflictError: the place has as many as it may.
    """
    column, place_id = await _place(database, actor, "configure", on)
    _require_one(wanted)
    async with database.write() as connection:
        held = select(func.count()).where(signature_rules.c[column] == place_id)
        if (await connection.execute(held)).scalar_one() >= RULES_MAX:
            raise ConflictError(f"{on} has {RULES_MAX} rules for signatures, which is the limit")
        made = await connection.execute(
            insert(signature_rules)
            .values(
                {
                    column: place_id,
                    "name": wanted.name,
                    "public_pem": wanted.public_pem,
                    "issuer": wanted.issuer,
                    "subject": wanted.subject,
                    "created_by": actor.shown,
                    "created_at": db_time(),
                }
            )
            .returning(*(signature_rules.c[name] for name in SignatureRule.__dataclass_fields__))
        )
        rule = SignatureRule(*made.one())
        await match_rule(connection, rule.id)
        await record(connection, "signature_rule.created", on, actor, _told(rule))
        await move_epoch(connection, "gate")
    return rule


async def drop(database: Database, *, actor: Actor, on: str, rule_id: int) -> None:
    """Require a signature no longer.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place, or no such rule on it.
    """
    column, place_id = await _place(database, actor, "configure", on)
    this = (signature_rules.c.id == rule_id, signature_rules.c[column] == place_id)
    async with database.write() as connection:
        found = await connection.execute(
            delete(signature_rules)
            .where(*this)
            .returning(*(signature_rules.c[name] for name in SignatureRule.__dataclass_fields__))
        )
        row = found.first()
        if row is None:
            raise NotFoundError(f"{on} has no rule {rule_id} for signatures")
        await record(connection, "signature_rule.deleted", on, actor, _told(SignatureRule(*row)))
        await move_epoch(connection, "gate")


async def _place(database: Database, actor: Actor, action: Action, on: str) -> tuple[str, int]:
    """The column that names a place, and the id of that."""
    if not on.endswith("/"):
        return "repository_id", (await find(database, actor=actor, action=action, name=on)).id
    await require_or_tell(database, actor, action, on, None)
    query = select(namespaces.c.id).where(namespaces.c.name == on.removesuffix("/"))
    async with database.read_once() as connection:
        found = (await connection.execute(query)).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"there is no namespace {on[:300]}")
    return "namespace_id", int(found)


def _require_one(wanted: Wanted) -> None:
    identity = (wanted.issuer, wanted.subject)
    if (wanted.public_pem is None) == (None in identity) or (None in identity) != (identity == (None, None)):
        raise RequestInvalidError("a rule names a key, or an issuer and a subject, and not both")
    if wanted.public_pem is not None:
        try:
            parse_keys(wanted.public_pem)
        except ValueError as error:
            raise RequestInvalidError(f"public_pem: {error}") from None


def _told(rule: SignatureRule) -> dict[str, Any]:
    by = {"issuer": rule.issuer, "subject": rule.subject} if rule.issuer else {"public_pem": rule.public_pem}
    return {"rule": rule.id, "name": rule.name, **by}
