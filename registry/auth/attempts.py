"""Tries to sign in with a password: which are looked at, and what is remembered of those that failed.

The rules are those of :mod:`registry.auth.buckets`. The counts are rows, so all replicas have the same; what
this process has seen of them is kept as well, and is all that there is while the database takes no rows. A
try that is refused writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import BigInteger, bindparam, case, delete, func, literal, select, type_coerce, union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.buckets import Bucket, Buckets, Kind, buckets_of, place_of, retry_after
from registry.db.accounts import accounts
from registry.db.dialect import insert
from registry.db.engine import Database
from registry.db.signins import sign_in_failures, sign_in_places
from registry.db.types import UtcTime, db_time
from registry.errors import TooManyRequestsError

KNOWN_DAYS = 90
"""How long a place is remembered where an account has signed in."""
PLACES_PER_ACCOUNT = 64
ROWS_PER_KIND = 20_000
"""More failures are not remembered: those go first that would have been forgotten first."""
_TRIM_AFTER_ROWS = 2000
_PLACE_NOTED = timedelta(days=1)
_KEPT_MAX = 20_000
_KNOWN, _FADING = "known", "fading"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to sign in. ``known``: the account has signed in from there before, ``noted``: and there is no
    need to write that down again."""

    name: str
    address: str | None
    buckets: Buckets
    known: bool
    noted: bool
    wait_seconds: float

    def require_allowed(self) -> None:
        """Refuse to look at the password.

        Raises:
            TooManyRequestsError: too many were wrong; ``Retry-After`` says when to come back.
        """
        if self.wait_seconds > 0:
            raise TooManyRequestsError(
                "too many sign-ins failed; wait before the next",
                headers={"Retry-After": retry_after(self.wait_seconds)},
            )


class FailedAttempts:
    """One per process. ``limit`` is how many are borne at once for one name from one place."""

    def __init__(self, database: Database, limit: int) -> None:
        self._database, self._limit = database, limit
        self._empty_at: dict[str, float] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pending: dict[str, tuple[Bucket, int]] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._written = 0

    @asynccontextmanager
    async def turn(self, name: str, address: str | None) -> AsyncIterator[Attempt]:
        """The try as it stands, alone while the block runs: of passwords that strangers send at once from
        one place, one is counted before the next is looked at."""
        attempt = await self._look(name, address)
        if attempt.wait_seconds > 0:
            yield attempt
            return
        buckets = attempt.buckets
        key = buckets.pair.key if attempt.known else buckets.place.key
        turn = self._turns.setdefault(key, asyncio.Lock())
        waits = turn.locked()
        async with turn:
            yield await self._look(name, address) if waits else attempt

    async def note_failure(self, attempt: Attempt) -> None:
        """Count a wrong password."""
        counted = attempt.buckets.counted(known=attempt.known)
        now = time.monotonic()
        for bucket in counted:
            left = self._empty_at.get(bucket.key, now) - now
            self._remember(bucket.key, now + bucket.after_failure(left))
            count = self._pending.get(bucket.key, (bucket, 0))[1]
            self._pending[bucket.key] = bucket, count + 1
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(written)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_while_waited_for())
        await written

    async def note_success(self, attempt: Attempt, account_id: int) -> None:
        """Remember from where an account has signed in; once a day."""
        if attempt.noted:
            return
        row = {"account_id": account_id, "place": place_of(attempt.address)}
        kept = (
            select(sign_in_places.c.place)
            .where(sign_in_places.c.account_id == account_id)
            .order_by(sign_in_places.c.last_at.desc())
            .limit(PLACES_PER_ACCOUNT)
        )
        forgetting = delete(sign_in_places).where(
            sign_in_places.c.account_id == account_id, sign_in_places.c.place.not_in(kept)
        )
        try:
            async with self._database.write() as connection:
                noting = insert(connection, sign_in_places).values(**row, last_at=db_time())
                await connection.execute(
                    noting.on_conflict_do_update(
                        index_elements=["account_id", "place"], set_={"last_at": db_time()}
                    )
                )
                await connection.execute(forgetting)
        except SQLAlchemyError as error:
            # A full disk must not keep anyone from signing in.
            _log.warning("sign_in.place_not_written", error=type(error).__name__)

    async def _write_while_waited_for(self) -> None:
        # One transaction at a time: all who guess at one account wait for the same row, and would hold every
        # connection that there is meanwhile.
        waiters: list[asyncio.Future[None]] = []
        try:
            while self._waiters:
                waiters, self._waiters = self._waiters, []
                pending, self._pending = self._pending, {}
                await self._write(pending)
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        finally:
            self._writing = None
            for waiter in (*waiters, *self._waiters):
                waiter.cancel()  # of what is done already, nothing comes

    async def _write(self, pending: Mapping[str, tuple[Bucket, int]]) -> None:
        rows = [
            {
                "key": key,
                "kind": bucket.kind,
                "more": round(bucket.seconds * min(count, bucket.burst) * 1e6),
                "most": round(bucket.seconds * bucket.burst * 1e6),
            }
            # In one order on all replicas: none waits for another that waits for it.
            for key, (bucket, count) in sorted(pending.items())
        ]
        try:
            async with self._database.write() as connection:
                await connection.execute(_counting(connection), rows)
            self._written += len(rows)
            if self._written >= _TRIM_AFTER_ROWS:
                self._written = 0
                await trim(self._database)
        except SQLAlchemyError as error:
            # A full disk must not make guessing cheaper: this process knows what it has seen.
            _log.warning("sign_in.failure_not_written", error=type(error).__name__)

    async def _look(self, name: str, address: str | None) -> Attempt:
        buckets = buckets_of(name, address, limit=self._limit)
        now = time.monotonic()
        # Whoever is known is refused by this one only, and whoever is not by this one also.
        pair_left = self._empty_at.get(buckets.pair.key, now) - now
        if (wait := buckets.pair.wait_seconds(pair_left)) > 0:
            return Attempt(name, address, buckets, known=False, noted=True, wait_seconds=wait)
        every = buckets.counted(known=False)
        named = {
            "keys": [bucket.key for bucket in every],
            "name": name.replace("\0", ""),
            "place": place_of(address),
        }
        async with self._database.read_once() as connection:
            found = {row.key: row.left for row in await connection.execute(_STATE, named)}
        known = _KNOWN in found or _FADING in found
        now = time.monotonic()
        left: dict[str, float] = {}
        for bucket in every:
            shared = found.get(bucket.key, 0) / 1e6
            own = self._empty_at.get(bucket.key, now) - now
            left[bucket.key] = max(shared, own)
            if shared > own:
                self._remember(bucket.key, now + shared)
        wait = buckets.wait_seconds(left, known=known)
        return Attempt(name, address, buckets, known=known, noted=_KNOWN in found, wait_seconds=wait)

    def _remember(self, key: str, empty_at: float) -> None:
        if len(self._empty_at) >= _KEPT_MAX:
            now = time.monotonic()
            kept = {known: at for known, at in self._empty_at.items() if at > now}
            # The rows have the rest.
            self._empty_at = kept if len(kept) < _KEPT_MAX // 2 else {}
        self._empty_at[key] = empty_at


async def trim(database: Database) -> int:
    """Forget failures that have drained, those that there is no room for, and places long not seen; how many
    rows."""
    table = sign_in_failures
    removed = 0
    async with database.write() as connection:
        for kind in get_args(Kind):
            drained = select(table.c.key).where(table.c.kind == kind, table.c.empty_at <= db_time())
            gone = await connection.execute(
                delete(table).where(table.c.key.in_(drained.with_for_update(skip_locked=True)))
            )
            removed += gone.rowcount
            count = await connection.scalar(select(func.count()).where(table.c.kind == kind)) or 0
            if count > ROWS_PER_KIND:
                first = select(table.c.key).where(table.c.kind == kind).order_by(table.c.empty_at)
                first = first.limit(count - ROWS_PER_KIND).with_for_update(skip_locked=True)
                gone = await connection.execute(delete(table).where(table.c.key.in_(first)))
                removed += gone.rowcount
        forgotten = sign_in_places.c.last_at < db_time(-timedelta(days=KNOWN_DAYS))
        gone = await connection.execute(delete(sign_in_places).where(forgotten))
    return removed + gone.rowcount


_STATE = union_all(
    select(
        sign_in_failures.c.key,
        (type_coerce(sign_in_failures.c.empty_at, BigInteger) - type_coerce(db_time(), BigInteger)).label(
            "left"
        ),
    ).where(sign_in_failures.c.key.in_(bindparam("keys", expanding=True))),
    select(
        case(
            (sign_in_places.c.last_at < db_time(-_PLACE_NOTED), literal(_FADING)), else_=literal(_KNOWN)
        ).label("key"),
        literal(0, BigInteger).label("left"),
    )
    .join(accounts, accounts.c.id == sign_in_places.c.account_id)
    .where(
        accounts.c.name == bindparam("name"),
        sign_in_places.c.place == bindparam("place"),
        sign_in_places.c.last_at > db_time(-timedelta(days=KNOWN_DAYS)),
    ),
)


def _counting(connection: AsyncConnection) -> Any:
    """More failures in a bucket."""
    table = sign_in_failures
    now = type_coerce(db_time(), BigInteger)
    more, most = bindparam("more", type_=BigInteger), bindparam("most", type_=BigInteger)
    stored = type_coerce(table.c.empty_at, BigInteger)
    began = case((stored > now, stored), else_=now)
    empty_at = case((began + more > now + most, now + most), else_=began + more)
    return (
        insert(connection, table)
        .values(key=bindparam("key"), kind=bindparam("kind"), empty_at=type_coerce(now + more, UtcTime))
        .on_conflict_do_update(index_elements=["key"], set_={"empty_at": type_coerce(empty_at, UtcTime)})
    )
