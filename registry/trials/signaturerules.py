"""Which signatures are required where, as maintainers say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from registry.auth.places import find_place, hold_place, parse_place
from registry.content.administration import require_place
from registry.content.blocks import below
from registry.db.content import repositories
from registry.db.engine import hold_epochs, move_epoch
from registry.db.outbox import record
from registry.db.signatures import signature_rules, signatures
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.events.webhooks import managed_place
from registry.trials.signatures import find_met, keep_met, rules_of, test_of
from registry.trials.trustedvex import judge_stated
from registry.trials.verifying import parse_keys

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from registry.auth.actor import Actor
    from registry.auth.places import Place
    from registry.content.repositories import Repository
    from registry.db.engine import Database

RULES_MAX = 20
"""On one place: each signature that is pushed below is verified against all of them."""
NAME_MAX = 100


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
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        here = signature_rules.c[place.column] == await find_place(connection, place)
        query = select(*_COLUMNS).where(here).order_by(signature_rules.c.id)
        return [SignatureRule(*row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class CountingRule:
    """A rule that counts in a repository, and ``on`` which place it stands: there or on a namespace above."""

    on: str
    rule: SignatureRule


async def list_counting(database: Database, repository: Repository) -> Sequence[CountingRule]:
    """All rules that count in a repository, which the caller may pull from."""
    async with database.read_once() as connection:
        rows = await rules_of(connection, repository.id, repository.name)
    names = SignatureRule.__dataclass_fields__
    return [
        CountingRule(
            row.place or repository.name, SignatureRule(**{name: getattr(row, name) for name in names})
        )
        for row in rows
    ]


async def create(database: Database, *, actor: Actor, on: str, wanted: Wanted) -> SignatureRule:
    """Require a signature from now on, of all that is there as well.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: not a key, nor an issuer with a subject; or the name is no name.
        ConflictError: the place has as many as it may.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    name = _name(wanted)
    _require_one(wanted)
    within = _within(place)
    test, looked = test_of(wanted), set[int]()
    # What takes long comes before the transaction, which holds up others.
    async with database.read() as connection:
        met = await find_met(connection, test, within, looked=looked)
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        held = select(func.count()).where(signature_rules.c[place.column] == place_id)
        if (await connection.execute(held)).scalar_one() >= RULES_MAX:
            raise ConflictError(f"{on} has {RULES_MAX} rules for signatures, which is the limit")
        made = await connection.execute(
            insert(signature_rules)
            .values(
                {
                    place.column: place_id,
                    "name": name,
                    "public_pem": wanted.public_pem,
                    "issuer": wanted.issuer,
                    "subject": wanted.subject,
                    "created_by": actor.shown,
                    "created_at": db_time(),
                }
            )
            .returning(*_COLUMNS)
        )
        rule = SignatureRule(*made.one())
        # Repositories first, then the epochs, as pushes take them. What came meanwhile is looked at now.
        signed = select(signatures.c.repository_id)
        locked = select(repositories.c.id).where(within, repositories.c.id.in_(signed))
        await connection.execute(locked.order_by(repositories.c.id).with_for_update(key_share=True))
        await judge_stated(connection, within)
        await hold_epochs(connection, "gate")
        met += await find_met(connection, test, within, looked=looked)
        await keep_met(connection, rule.id, met)
        await record(connection, "signature_rule.created", place.key, actor, _told(rule))
    return rule


async def remove(database: Database, *, actor: Actor, rule_id: int) -> None:
    """Require a signature no longer.

    Raises:
        NotFoundError: there is no such rule, or the actor may make none there.
    """
    missing = NotFoundError(f"there is no rule {rule_id} for signatures that you manage")
    key = await managed_place(database, actor, signature_rules, rule_id)
    if key is None:
        raise missing
    place = parse_place(key)
    async with database.write() as connection:
        await hold_place(connection, place)
        this = delete(signature_rules).where(signature_rules.c.id == rule_id).returning(*_COLUMNS)
        row = (await connection.execute(this)).first()
        if row is None:
            raise missing
        await record(connection, "signature_rule.deleted", key, actor, _told(SignatureRule(*row)))
        await judge_stated(connection, _within(place))
        await move_epoch(connection, "gate")


def _within(place: Place) -> ColumnElement[bool]:
    name = repositories.c.name
    return below(name, place.key) if place.is_namespace else name == place.name


def _name(wanted: Wanted) -> str:
    name = wanted.name.strip()
    if not name.isprintable() or not 0 < len(name) <= NAME_MAX:
        raise RequestInvalidError(f"name: must have 1 to {NAME_MAX} printable characters")
    return name


def _require_one(wanted: Wanted) -> None:
    identity = (wanted.issuer, wanted.subject)
    if (wanted.public_pem is None) == (None in identity) or (None in identity) != (identity == (None, None)):
        raise RequestInvalidError("a rule names a key, or an issuer and a subject, and not both")
    if wanted.public_pem is not None:
        try:
            keys = parse_keys(wanted.public_pem)
        except ValueError as error:
            raise RequestInvalidError(f"public_pem: {error}") from None
        if len(keys) > 1:
            raise RequestInvalidError(f"public_pem: it holds {len(keys)} keys; make a rule for each")


def _told(rule: SignatureRule) -> dict[str, Any]:
    by = {"issuer": rule.issuer, "subject": rule.subject} if rule.issuer else {"public_pem": rule.public_pem}
    return {"rule": rule.id, "name": rule.name, **by}


_COLUMNS = tuple(signature_rules.c[name] for name in SignatureRule.__dataclass_fields__)
