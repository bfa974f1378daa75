"""From a password or an API token to an actor. Each answer is cached until the access epoch moves.

Refusals all read alike: which of name, password or token was wrong is told to nobody.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Row, Select, select, update
from sqlalchemy.exc import DBAPIError

from registry.auth import standing
from registry.auth.actor import Actor
from registry.auth.apitokens import is_token, looks_like_api_token, token_hash
from registry.auth.attempts import Attempt, FailedAttempts
from registry.auth.epochcache import EpochCache
from registry.auth.oidc.exchange import USER as JOB_USER
from registry.auth.oidc.exchange import admit
from registry.auth.oidc.opened import Oidc
from registry.auth.oidc.signed import canonical, looks_signed
from registry.auth.passwords import Passwords
from registry.auth.tokenuses import token_uses
from registry.auth.tombstones import given_up_since_made, names_of
from registry.db.accounts import accounts, tokens
from registry.db.engine import Database
from registry.db.types import db_time
from registry.errors import UnauthorizedError

CACHED_SECONDS = 60.0
_REFUSAL = "the user name and password or the token are not valid; sign in again"
_log = structlog.get_logger(__name__)


class Credentials:
    """One per process; holds the password threads and the caches."""

    def __init__(self, database: Database, *, failures: FailedAttempts, oidc: Oidc) -> None:
        self._database = database
        self._oidc = oidc
        self._failures = failures
        self._passwords = Passwords()
        self._cache: EpochCache[Actor] = EpochCache()
        # A fast hash of a password must not outlive the process or mean anything outside it.
        self._cache_key = secrets.token_bytes(32)
        self.uses = token_uses(database)

    @property
    def passwords(self) -> Passwords:
        """Where passwords are hashed."""
        return self._passwords

    def close(self) -> None:
        """End the password threads."""
        self._passwords.close()

    async def from_basic(self, username: str, password: str, *, address: str | None) -> Actor:
        """The actor of a user name and password. An API token is a password too, under any user name, and
        the token of a job under the name ``oidc``.

        Raises:
            UnauthorizedError: not valid, expired, revoked, or the account is disabled.
            TooManyRequestsError: too many passwords were tried from ``address``; this one was not looked at.
            UnavailableError: a job's issuer cannot be asked for its keys.
        """
        if looks_like_api_token(password):
            return await self.from_api_token(password, address=address)
        if username == JOB_USER and looks_signed(password):
            return await self._from_job(password, address=address)
        key = self._key("password", username, password)
        epoch = (await self._database.epochs()).access
        if (cached := self._remembered(key, epoch)) is not None:
            return cached
        async with self._failures.turn(username, address) as attempt:
            # Who signs in many times at once is looked at once.
            if (cached := self._remembered(key, epoch)) is not None:
                return cached
            actor, _ = await self._verified(attempt, password)
        # The password waited in line, and took long to look at: its account may not be what it was.
        now = (await self._database.epochs()).access
        if now != epoch:
            actor, before = await self.actor_of(actor.account_id or 0, None, epoch=now), actor
            if actor.credentials_after != before.credentials_after:
                raise UnauthorizedError(_REFUSAL)
        return self._remember(key, actor, epoch=now, seconds=CACHED_SECONDS)

    async def _verified(self, attempt: Attempt, password: str) -> tuple[Actor, str]:
        """The user whose password it is, and the hash that is stored of it."""
        attempt.require_allowed()
        if not attempt.known:
            self._passwords.require_room()
        rows: Sequence[Row[Any]] = ()
        if "\0" not in attempt.name:  # PostgreSQL takes none, and nobody has such a name
            async with self._database.read_once() as connection:
                rows = (await connection.execute(standing.BY_NAME, {"name": attempt.name})).all()
        stored = rows[0].password_hash if rows else None
        if not await self._passwords.verify(stored, password) or not rows:
            await self._failures.note_failure(attempt)
            raise UnauthorizedError(_REFUSAL)
        assert stored is not None
        actor = standing.actor_of(rows)
        await self._failures.note_success(attempt, rows[0].id)
        if self._passwords.is_outdated(stored):
            stored = await self._hash_anew(rows[0].id, stored, password)
        return actor, stored

    async def _hash_anew(self, account_id: int, stored: str, password: str) -> str:
        """Store the hash of a password as hashes are made today: now the password is there to make it."""
        renewed = await self._passwords.hash_again(password)
        still = update(accounts).where(accounts.c.id == account_id, accounts.c.password_hash == stored)
        try:
            async with self._database.write() as connection:
                done = await connection.execute(still.values(password_hash=renewed))
        except DBAPIError as error:
            # A full disk must not keep anyone from signing in.
            _log.warning("password.not_hashed_anew", error=type(error.orig).__name__)
            return stored
        return renewed if done.rowcount else stored

    async def for_session(
        self, username: str, password: str, *, address: str | None
    ) -> tuple[Actor, str | None]:
        """As :meth:`from_basic`, looked at anew; and the hash of the password, ``None`` with an API token.

        Raises:
            UnauthorizedError, TooManyRequestsError: as there.
        """
        if looks_like_api_token(password):
            return await self.from_api_token(password, address=address), None
        async with self._failures.turn(username, address) as attempt:
            return await self._verified(attempt, password)

    async def from_api_token(self, text: str, *, address: str | None) -> Actor:
        """The actor of an API token, limited to the token's scopes.

        Raises:
            UnauthorizedError: not valid, expired, revoked, not to be used from ``address``, or its account is
                disabled.
        """
        epoch = (await self._database.epochs()).access
        known = self._remembered(self._key("token", text), epoch)
        if known is not None:
            standing.require_place(known, address)
            return known
        if not is_token(text):
            raise UnauthorizedError(_REFUSAL)
        try:
            return await self._from_secret(text, address=address)
        except UnauthorizedError:
            await self._tell_expiry(token_hash(text))
            raise

    async def _from_secret(self, text: str, *, address: str | None) -> Actor:
        epoch = (await self._database.epochs()).access
        named = {"secret_hash": token_hash(text)}
        actor = await self._actor(self._key("token", text), standing.BY_SECRET, named, epoch=epoch)
        standing.require_place(actor, address)
        return actor

    async def _from_job(self, text: str, *, address: str | None) -> Actor:
        text = canonical(text)
        try:
            return await self._from_secret(text, address=address)
        except UnauthorizedError:  # seen for the first time, or again when its time here was up
            await admit(self._oidc, text, address=address)
        return await self._from_secret(text, address=address)

    async def actor_of(self, account_id: int, token_id: str | None, *, epoch: int) -> Actor:
        """The actor whom a registry token names, as its account and API token stand under the access epoch
        ``epoch``, read just now. Where it may be used from the caller looks at
        (:func:`~registry.auth.standing.require_place`).

        Raises:
            UnauthorizedError: since disabled, revoked or expired.
        """
        key = self._key("standing", str(account_id), token_id or "")
        if token_id is None:
            return await self._actor(key, standing.BY_ACCOUNT, {"account_id": account_id}, epoch=epoch)
        named = {"account_id": account_id, "token_id": token_id}
        return await self._actor(key, standing.BY_TOKEN, named, epoch=epoch)

    async def _actor(
        self, key: bytes, query: Select[Any], named: Mapping[str, object], *, epoch: int
    ) -> Actor:
        if (cached := self._remembered(key, epoch)) is not None:
            return cached
        async with self._database.read_once() as connection:
            rows = (await connection.execute(query, named)).all()
        if not rows:
            raise UnauthorizedError(_REFUSAL)
        actor = await self._without_given_up(standing.actor_of(rows))
        left = getattr(rows[0], "microseconds_left", None)
        seconds = CACHED_SECONDS if left is None else min(CACHED_SECONDS, left / 1e6)
        return self._remember(key, actor, epoch=epoch, seconds=seconds)

    def _remember(self, key: bytes, actor: Actor, *, epoch: int, seconds: float) -> Actor:
        # With its end in it: to make another actor takes as long as all the rest of a look into the cache.
        kept = replace(actor, until=time.monotonic() + seconds)
        self._cache.put(key, kept, epoch=epoch, seconds=seconds)
        return kept

    async def _without_given_up(self, actor: Actor) -> Actor:
        """The actor without what its token says of repositories that are no longer those it was made for."""
        if actor.token_id is None or not (names := names_of(actor.scopes or ())):
            return actor
        void = await given_up_since_made(self._database, actor.token_id, names)
        return replace(actor, scopes=tuple(scope for scope in actor.scopes or () if scope.name not in void))

    def _remembered(self, key: bytes, epoch: int) -> Actor | None:
        found = self._cache.get(key, epoch=epoch)
        return None if found is None else found[0]

    async def _tell_expiry(self, hashed: str) -> None:
        """Say so where it is only time that has made the token worth nothing; who holds it may know."""
        query = select(tokens.c.expires_at).where(
            tokens.c.secret_hash == hashed, tokens.c.revoked_at.is_(None), tokens.c.expires_at <= db_time()
        )
        async with self._database.read_once() as connection:
            expired_at = (await connection.execute(query)).scalar_one_or_none()
        if expired_at is not None:
            when = expired_at.strftime("%Y-%m-%d %H:%M UTC")
            raise UnauthorizedError(f"this token expired at {when}; make a new one and sign in with it")

    def _key(self, kind: str, *parts: str) -> bytes:
        hashed = hashlib.blake2b(key=self._cache_key, digest_size=32)
        for part in (kind, *parts):
            data = part.encode("utf-8", "surrogatepass")
            hashed.update(len(data).to_bytes(8, "big") + data)
        return hashed.digest()
