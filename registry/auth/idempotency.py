"""Idempotency keys: a request that its sender repeats is carried out once, and answered as the first time.

The key's row is written in the transaction that carries the request out: it is there if and only if the
request took effect, whenever the server was killed. The answer is added afterwards. A key belongs to one
account and one credential of it; when its rights have changed since, the answer is not repeated.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from registry.db.dialect import insert, insert_ignoring_conflict
from registry.db.idempotency import idempotency_keys
from registry.db.sweeping import sweep
from registry.db.types import db_time
from registry.errors import IdempotencyKeyReusedError, RequestInvalidError, TooManyRequestsError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database

KEPT = timedelta(hours=24)
MIN_LENGTH = 16
MAX_LENGTH = 128
MAX_PER_ACCOUNT = 10_000
MAX_ANSWER_CHARACTERS = 64 * 1024


class RepeatedError(Exception):
    """The request was carried out meanwhile, by another copy of it; this one's transaction must not be."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request; both are ``None`` where its answer was lost or may not be kept."""

    status: int | None
    answer: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One request under one key."""

    account_id: int
    key_hash: str
    request_mac: str

    async def outcome(self, database: Database) -> Outcome | None:
        """What became of it; ``None`` if it was not carried out in the last 24 hours.

        Raises:
            IdempotencyKeyReusedError: the key was used for another request.
        """
        query = select(
            idempotency_keys.c.request_mac, idempotency_keys.c.status, idempotency_keys.c.answer
        ).where(idempotency_keys.c.key_hash == self.key_hash, idempotency_keys.c.created_at > db_time(-KEPT))
        async with database.read_once() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        request, _, rights = row.request_mac.partition(":")
        own_request, _, own_rights = self.request_mac.partition(":")
        if not hmac.compare_digest(request, own_request):
            raise IdempotencyKeyReusedError(
                "this Idempotency-Key was used for another request in the last 24 hours; choose a new one"
            )
        if rights != own_rights:
            return Outcome(None, None)  # what was answered then may not be for the actor's eyes any more
        return Outcome(row.status, row.answer)

    async def claim(self, connection: AsyncConnection) -> None:
        """Note, in the transaction that carries the request out, that it does.

        Raises:
            RepeatedError: another transaction has, meanwhile.
            TooManyRequestsError: the account has as many keys as it may.
        """
        await connection.execute(
            delete(idempotency_keys).where(
                idempotency_keys.c.key_hash == self.key_hash,
                idempotency_keys.c.created_at <= db_time(-KEPT),
            )
        )
        own = select(1).where(idempotency_keys.c.account_id == self.account_id).limit(MAX_PER_ACCOUNT)
        held = await connection.scalar(select(func.count()).select_from(own.subquery()))
        if held == MAX_PER_ACCOUNT:
            raise TooManyRequestsError(
                f"{MAX_PER_ACCOUNT} idempotency keys of this account are kept, which is the limit; "
                "the oldest go after 24 hours",
                headers={"Retry-After": "3600"},
            )
        made = await connection.execute(
            insert_ignoring_conflict(connection, idempotency_keys, self._row).returning(
                idempotency_keys.c.key_hash
            )
        )
        if made.first() is None:
            raise RepeatedError

    async def keep(self, database: Database, outcome: Outcome) -> None:
        """Keep the answer of a request that was carried out, if it is not too long; and its row, where what
        it did was in no transaction of ``database``."""
        if len(outcome.answer or "") > MAX_ANSWER_CHARACTERS:
            outcome = Outcome(None, None)
        kept = {"status": outcome.status, "answer": outcome.answer}
        async with database.write() as connection:
            await connection.execute(
                insert(connection, idempotency_keys)
                .values(self._row | kept)
                .on_conflict_do_update(index_elements=["key_hash"], set_=kept | {"created_at": db_time()})
            )

    @property
    def _row(self) -> dict[str, Any]:
        return {
            "key_hash": self.key_hash,
            "account_id": self.account_id,
            "request_mac": self.request_mac,
            "created_at": db_time(),
        }


def key_of(actor: Actor, key: str, request: bytes) -> Key:
    """The key that ``actor`` chose for ``request``, all of it that decides what it does.

    Raises:
        RequestInvalidError: too short to be unlike others, too long, or nobody's.
    """
    if not (MIN_LENGTH <= len(key) <= MAX_LENGTH and key.isascii() and key.isprintable()):
        raise RequestInvalidError(
            f"an Idempotency-Key has {MIN_LENGTH} to {MAX_LENGTH} printable characters; a new UUID will do"
        )
    if actor.account_id is None:
        raise RequestInvalidError("this request takes no Idempotency-Key: it is nobody's")
    whose = f"{actor.account_id}\n{actor.token_id or actor.session_id or ''}\n{key}"
    rights = (
        actor.is_admin,
        actor.is_auditor,
        sorted(actor.roles.items()),
        list(map(str, actor.scopes or ())),
    )
    return Key(
        account_id=actor.account_id,
        key_hash=hashlib.sha256(whose.encode()).hexdigest(),
        request_mac=":".join(
            hmac.new(key.encode(), part, hashlib.sha256).hexdigest()
            for part in (request, repr(rights).encode())
        ),
    )


async def sweep_expired(database: Database) -> int:
    """Forget the keys that are older than they are kept; how many."""
    return await sweep(database, idempotency_keys.c.key_hash, idempotency_keys.c.created_at <= db_time(-KEPT))
