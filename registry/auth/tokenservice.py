"""Registry tokens: what ``/token`` hands out and ``/v2/`` takes (Docker's token documents; RFC 7519).

A token names its account and API token, and both are looked at on each use: disabling and revoking work at
once. Only a key of the ring ``token`` verifies, with its own algorithm; every other header parameter is
ignored.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import select
from uuid_utils import uuid7

from registry.auth.actor import ANONYMOUS, Actor, Lease
from registry.auth.attempts import FailedAttempts
from registry.auth.credentials import Credentials
from registry.auth.epochcache import EpochCache
from registry.auth.keyring import (
    Algorithm,
    KeyRing,
    Verifier,
    open_token_ring,
)
from registry.auth.oidc.opened import Oidc
from registry.auth.policy import Action, decide
from registry.auth.refreshtokens import RefreshTokens
from registry.auth.scopes import Scope
from registry.auth.secretkey import SecretKey
from registry.auth.standing import require_place
from registry.auth.tombstones import Tombstones
from registry.db.content import repositories
from registry.db.engine import Database
from registry.db.trials import is_leased, parts
from registry.errors import UnauthorizedError
from registry.settings import Settings

SERVICE = "seatrial"
"""``service`` of the challenge, ``aud`` and ``iss`` of the tokens: the keys tell installations apart."""
RING_SECONDS = 30
"""How long a process goes by the keys that it read: less than a new one waits before it signs."""
SKEW_SECONDS = 60
"""How far the clocks of replicas may be apart."""
CATALOG = Scope("registry", "catalog", frozenset({"*"}))
_INVALID = "the registry token is not valid, or no longer; ask for a new one"


@dataclass(frozen=True, slots=True, repr=False)
class RegistryToken:
    """A token as ``/token`` answers it; ``granted`` are the scopes it carries."""

    text: str
    granted: tuple[Scope, ...]
    issued_at: datetime
    seconds: int


class _Access(BaseModel):
    model_config = ConfigDict(strict=True)
    type: str
    name: str
    actions: list[str]


class _Lease(BaseModel):
    model_config = ConfigDict(strict=True)
    id: str
    repository: str
    digest: str
    services: list[list[str]] = []


class _Claims(BaseModel):
    model_config = ConfigDict(strict=True)
    sub: str
    exp: int
    access: list[_Access]
    refused: list[_Access] = []
    # The access epoch under which it was signed.
    epoch: int = 0
    account: int | None = None
    # The account's credentials_after when it was issued, not the time of issue: no clock can be wrong then.
    after: float | None = None
    token: str | None = None
    lease: _Lease | None = None


class TokenService:
    """Mints and verifies; one per process. ``credentials`` verifies passwords and API tokens."""

    def __init__(
        self, database: Database, settings: Settings, *, credentials: Credentials, secret_key: SecretKey
    ) -> None:
        self._database = database
        self.credentials = credentials
        self.refresh_tokens = RefreshTokens(
            database,
            credentials,
            life=timedelta(days=settings.refresh_token_days),
            most=settings.refresh_tokens_per_credential,
        )
        self._secret_key = secret_key
        self._seconds = settings.token_seconds
        self._algorithm: Algorithm = settings.token_algorithm
        self._key_life = timedelta(days=settings.token_key_days)
        self._rings: EpochCache[KeyRing] = EpochCache()
        self._verified: EpochCache[_Claims] = EpochCache()
        self._tombstones = Tombstones(database, EpochCache())
        self._actors: EpochCache[Actor] = EpochCache()

    def close(self) -> None:
        """End the password threads."""
        self.credentials.close()

    async def mint(self, actor: Actor, asked: Iterable[Scope]) -> RegistryToken:
        """A token for what ``actor`` may do of what is asked: the rest is remembered as refused."""
        epoch = (await self._database.epochs()).access
        wanted = _merged(asked)
        granted: list[Scope] = []
        refused: list[Scope] = []
        visibilities = await self._visibilities(scope.name for scope in wanted if scope.type == "repository")
        for scope in wanted:
            if scope == CATALOG:
                granted.append(scope)
                continue
            visibility = visibilities.get(scope.name)
            allowed = frozenset(
                action
                for action in get_args(Action)
                if action in scope.actions and decide(actor, action, scope.name, visibility).allowed
            )
            granted += [replace(scope, actions=allowed)] if allowed else []
            refused += [replace(scope, actions=scope.actions - allowed)] if scope.actions - allowed else []
        claims = {
            "sub": "" if actor.kind == "anonymous" else actor.name,
            "access": [_access(scope) for scope in granted],
            "refused": [_access(scope) for scope in refused],
            "epoch": epoch,
            "account": actor.account_id,
            "after": _after(actor),
            "token": actor.token_id,
        }
        return await self._sign(claims, tuple(granted), self._seconds)

    async def mint_for_lease(self, worker: Actor, lease: Lease, *, seconds: int) -> str:
        """A worker's pull token: it opens the images of one lease, and only while the lease lives."""
        names = sorted(lease.repositories)
        scopes = tuple(Scope("repository", name, frozenset({"pull"})) for name in names)
        named = {"id": lease.id, "repository": lease.repository, "digest": lease.digest}
        claims = {
            "sub": worker.name,
            "access": [_access(scope) for scope in scopes],
            "epoch": (await self._database.epochs()).access,
            "account": worker.account_id,
            "after": _after(worker),
            "token": worker.token_id,
            "lease": {**named, **({"services": lease.services} if lease.services else {})},
        }
        return (await self._sign(claims, scopes, seconds)).text

    async def verify(self, text: str, *, address: str | None) -> Actor:
        """The actor of a registry token.

        Raises:
            UnauthorizedError: not ours, altered, expired, issued before its account's credentials were made
                void, its account, API token or lease is gone, or that API token may not be used from
                ``address``.
        """
        epoch = (await self._database.epochs()).access
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        if (known := self._actors.get(key, epoch=epoch)) is not None:
            require_place(known[0], address)
            return known[0]
        claims, until = await self._claims(text, key, epoch)
        # Exact names only: a pattern is something that API tokens have.
        scopes = tuple(_scope(access) for access in claims.access if "*" not in access.name)
        refused = frozenset((access.name, action) for access in claims.refused for action in access.actions)
        if claims.account is None:
            nobody = replace(ANONYMOUS, scopes=scopes, refused=refused, from_registry_token=True, until=until)
            return self._remember(key, nobody, epoch)
        actor = await self.credentials.actor_of(claims.account, claims.token, epoch=epoch)
        require_place(actor, address)
        if claims.after != _after(actor):
            raise UnauthorizedError(_INVALID)
        if actor.scopes is not None and actor.kind != "worker":
            scopes = tuple(_within(scope, actor.scopes) for scope in scopes)
        lease = await self._living_lease(claims.lease, claims.account) if claims.lease else None
        if (lease is None) == (actor.kind == "worker"):
            raise UnauthorizedError(_INVALID)
        verified = replace(
            actor,
            scopes=scopes,
            refused=refused,
            from_registry_token=True,
            lease=lease,
            credential_scopes=actor.scopes,
            until=min(until, actor.until),
        )
        return verified if lease is not None else self._remember(key, verified, epoch)

    async def as_now(self, actor: Actor) -> Actor:
        """The actor of a request that took long, as its account and API token stand now. A registry token
        that has expired meanwhile ends no push that it began.

        Raises:
            UnauthorizedError: disabled, revoked or with new credentials since, or not from this address.
        """
        if actor.account_id is None:
            return actor
        epoch = (await self._database.epochs()).access
        now = await self.credentials.actor_of(actor.account_id, actor.token_id, epoch=epoch)
        require_place(now, actor.address)
        if _after(now) != _after(actor):
            raise UnauthorizedError(_INVALID)
        scopes = now.scopes
        if actor.from_registry_token:
            scopes = tuple(
                _within(scope, scopes) if scopes is not None else scope for scope in actor.scopes or ()
            )
        return replace(
            actor,
            is_admin=now.is_admin,
            is_auditor=now.is_auditor,
            roles=now.roles,
            scopes=scopes,
            credential_scopes=now.scopes if actor.from_registry_token else None,
        )

    def _remember(self, key: bytes, actor: Actor, epoch: int) -> Actor:
        self._actors.put(key, actor, epoch=epoch, seconds=actor.until - time.monotonic())
        return actor

    async def verifiers(self) -> Mapping[str, Verifier]:
        """The public keys that registry tokens are verified with, by ``kid``."""
        return (await self._ring((await self._database.epochs()).access)).public

    async def _ring(self, epoch: int) -> KeyRing:
        if (known := self._rings.get(b"", epoch=epoch)) is not None:
            return known[0]
        ring = await open_token_ring(
            self._database, self._secret_key, algorithm=self._algorithm, max_age=self._key_life
        )
        self._rings.put(b"", ring, epoch=epoch, seconds=RING_SECONDS)
        return ring

    async def _sign(
        self, claims: Mapping[str, object], granted: tuple[Scope, ...], seconds: int
    ) -> RegistryToken:
        ring = await self._ring((await self._database.epochs()).access)
        now = int(time.time())
        document = {
            **{name: value for name, value in claims.items() if value is not None},
            "iss": SERVICE,
            "aud": SERVICE,
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "jti": str(uuid7()),
        }
        text = jwt.encode(document, ring.private, algorithm=ring.algorithm, headers={"kid": ring.kid})
        return RegistryToken(text, granted, datetime.fromtimestamp(now, UTC), seconds)

    async def _claims(self, text: str, key: bytes, epoch: int) -> tuple[_Claims, float]:
        """What a valid token says, and until when that need not be looked at again."""
        if (cached := self._verified.get(key, epoch=epoch)) is not None:
            return cached
        ring = await self._ring(epoch)
        try:
            kid = jwt.get_unverified_header(text).get("kid")
            verifier = ring.public.get(kid) if isinstance(kid, str) else None
            if verifier is None:
                raise UnauthorizedError(_INVALID)
            document: dict[str, Any] = jwt.decode(
                text,
                verifier.public,
                algorithms=[verifier.algorithm],
                audience=SERVICE,
                issuer=SERVICE,
                leeway=SKEW_SECONDS,
                options={"require": ["exp", "nbf", "iat", "iss", "aud", "sub", "jti"]},
            )
            claims = _Claims.model_validate(document)
        except (jwt.PyJWTError, ValidationError, ValueError, RecursionError):
            # ValueError: what PyJWT lets through from base64 and json for text that is no token at all.
            raise UnauthorizedError(_INVALID) from None
        named = (*claims.access, *claims.refused)
        void = await self._tombstones.since(claims.epoch, {access.name for access in named}, epoch=epoch)
        if void:
            # As if they had never been asked for: then the client asks anew.
            kept = {
                part: [access for access in getattr(claims, part) if access.name not in void]
                for part in ("access", "refused")
            }
            claims = claims.model_copy(update=kept)
        seconds = min(60.0, claims.exp + SKEW_SECONDS - time.time())
        return claims, self._verified.put(key, claims, epoch=epoch, seconds=seconds)

    async def _visibilities(self, names: Iterable[str]) -> dict[str, Any]:
        query = select(repositories.c.name, repositories.c.visibility).where(
            repositories.c.name.in_(list(names))
        )
        async with self._database.read_once() as connection:
            return {row.name: row.visibility for row in await connection.execute(query)}

    async def _living_lease(self, lease: _Lease, account_id: int) -> Lease:
        query = (
            select(parts.c.id)
            .join(repositories, repositories.c.id == parts.c.repository_id)
            .where(
                is_leased(lease.id, account_id),
                parts.c.digest == lease.digest,
                # Another repository may have the name by now.
                repositories.c.name == lease.repository,
            )
        )
        async with self._database.read_once() as connection:
            if (await connection.execute(query)).first() is None:
                raise UnauthorizedError(_INVALID)
        services = tuple((repository, digest) for repository, digest in lease.services)
        return Lease(lease.id, lease.repository, lease.digest, services)


async def open_token_service(settings: Settings, database: Database, oidc: Oidc) -> TokenService:
    """The token service of this process; makes the first signing key where there is none.

    Raises:
        SettingsError: the secret key is not the database's.
    """
    await open_token_ring(database, oidc.secret_key)
    failures = FailedAttempts(database, settings.failed_sign_ins)
    credentials = Credentials(database, failures=failures, oidc=oidc)
    return TokenService(database, settings, credentials=credentials, secret_key=oidc.secret_key)


def _merged(scopes: Iterable[Scope]) -> list[Scope]:
    merged: dict[tuple[str, str], Scope] = {}
    for scope in scopes:
        key = (scope.type, scope.name)
        known = merged.get(key)
        merged[key] = replace(scope, actions=scope.actions | known.actions) if known else scope
    return list(merged.values())


def _after(actor: Actor) -> float | None:
    return None if actor.credentials_after is None else actor.credentials_after.timestamp()


def _within(scope: Scope, limits: Sequence[Scope]) -> Scope:
    """What of a scope the API token behind it covers now: it may cover less than when the scope was given."""
    if scope == CATALOG:
        return scope
    covered = frozenset(
        action
        for action in scope.actions
        if any(limit.covers(scope.type, scope.name, action) for limit in limits)
    )
    return scope if covered == scope.actions else replace(scope, actions=covered)


def _access(scope: Scope) -> dict[str, object]:
    return {"type": scope.type, "name": scope.name, "actions": sorted(scope.actions)}


def _scope(access: _Access) -> Scope:
    return Scope(access.type, access.name, frozenset(access.actions))
