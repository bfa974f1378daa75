"""Key rings: rows that every replica shares, private keys wrapped by the secret key.

The ring ``token`` signs registry tokens, with ES256 or EdDSA (Ed25519); the ring ``attestation`` signs
verdicts, with ES256. Each purpose has a ring of its own, so that what is signed for one never passes for the
other.

A key is known to all for :data:`SETTLE` before it signs, and verifies for a while after another has taken
its place: nobody holds a token that some replica cannot verify. What was attested is read for years: a key
of that ring verifies for ever, unless it was stolen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from sqlalchemy import BigInteger, insert, or_, select, type_coerce, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from registry.auth.access import require_admin
from registry.auth.actor import REGISTRY, Actor
from registry.auth.secretkey import SecretKey
from registry.db.accounts import keys
from registry.db.engine import Database, move_epoch
from registry.db.events import epochs
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import RequestInvalidError

Algorithm = Literal["ES256", "EdDSA"]
Ring = Literal["token", "attestation"]
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

SETTLE = timedelta(seconds=60)
"""For so long a new key does not sign yet: longer than a replica may go by what it knew."""
KEEP = timedelta(hours=2)
"""For so long a key verifies after it was replaced: longer than any token lives, also a worker's."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key, and the one algorithm that it is for."""

    algorithm: Algorithm
    public: PublicKey


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """One key signs; each key that is not retired verifies, found by its ``kid`` in a dict. ``age`` is the
    newest's."""

    kid: str
    algorithm: Algorithm
    private: PrivateKey
    public: Mapping[str, Verifier]
    age: timedelta


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its row says, without the private half. Retired at a time to come, it verifies until then."""

    kid: str
    ring: str
    algorithm: str
    public_pem: str
    created_at: datetime
    retired_at: datetime | None


async def open_token_ring(
    database: Database,
    secret_key: SecretKey,
    *,
    algorithm: Algorithm = "ES256",
    max_age: timedelta = timedelta.max,
) -> KeyRing:
    """The ring ``token``; where it has no key, or the newest is older than ``max_age``, one of the replicas
    that ask makes one.

    Raises:
        SettingsError: the secret key is not the one that wrapped the rows.
    """
    async with database.read() as connection:
        ring = await _read(connection, secret_key, "token")
    if ring is not None and ring.age < max_age:
        return ring
    try:
        return await _renewed(database, secret_key, "token", algorithm=algorithm, max_age=max_age)
    except SQLAlchemyError as error:
        if ring is None:
            raise
        # A full disk must not keep anyone from pulling: an old key is as good until it can be replaced.
        _log.warning("key.not_replaced", ring="token", error=type(error).__name__)
        return ring


async def open_attestation_ring(database: Database, secret_key: SecretKey) -> KeyRing:
    """The ring ``attestation``; where it has no key, one of the replicas that ask makes one.

    Raises:
        SettingsError: the secret key is not the one that wrapped the rows.
    """
    async with database.read() as connection:
        ring = await _read(connection, secret_key, "attestation")
    return ring or await _renewed(
        database, secret_key, "attestation", algorithm="ES256", max_age=timedelta.max
    )


async def require_opens(database: Database, secret_key: SecretKey) -> None:
    """Look whether the keys of the database can be used with this secret key.

    Raises:
        SettingsError: it is not the one that wrapped them.
    """
    async with database.read() as connection:
        for ring in get_args(Ring):
            await _read(connection, secret_key, ring)


async def _renewed(
    database: Database, secret_key: SecretKey, name: Ring, *, algorithm: Algorithm, max_age: timedelta
) -> KeyRing:
    async with database.write() as connection:
        await _lock(connection)
        ring = await _read(connection, secret_key, name)
        if ring is None or ring.age >= max_age:
            kid = await _replace(connection, secret_key, name, algorithm)
            if ring is not None:
                said = {"ring": name, "algorithm": algorithm, "at_once": False}
                await record(connection, "key.rotated", None, REGISTRY, said, target=kid)
            ring = await _read(connection, secret_key, name)
    assert ring is not None
    return ring


async def rotate_ring(
    database: Database,
    secret_key: SecretKey,
    ring: Ring,
    *,
    actor: Actor,
    algorithm: Algorithm,
    at_once: bool,
) -> Key:
    """Make a key that signs from now on, or after :data:`SETTLE`. ``at_once``: all others are worth nothing
    from this moment, for when one was stolen; whoever holds a token then asks for a new one, and verdicts are
    signed anew.

    Raises:
        DeniedError: the actor is no administrator.
        RequestInvalidError: an algorithm that is not for this ring.
    """
    require_admin(actor)
    if ring == "attestation" and algorithm != "ES256":
        raise RequestInvalidError("verdicts are signed with ES256")
    async with database.write() as connection:
        await _lock(connection)
        if at_once:
            await connection.execute(
                update(keys)
                .where(keys.c.ring == ring, or_(keys.c.retired_at.is_(None), keys.c.retired_at > db_time()))
                .values(retired_at=db_time())
            )
        kid = await _replace(connection, secret_key, ring, algorithm)
        said = {"ring": ring, "algorithm": algorithm, "at_once": at_once}
        await record(connection, "key.rotated", None, actor, said, target=kid)
        row = (await connection.execute(_SHOWN.where(keys.c.kid == kid))).one()
        return Key(**row._asdict())


async def list_keys(database: Database, *, actor: Actor) -> list[Key]:
    """All keys, the newest first, also the retired: of all rings for administrators, for everybody those that
    verdicts are signed with."""
    query = _SHOWN.order_by(keys.c.created_at.desc(), keys.c.kid.desc())
    if not actor.is_admin:
        query = query.where(keys.c.ring == "attestation")
    async with database.read() as connection:
        rows = await connection.execute(query)
        return [Key(**row._asdict()) for row in rows]


async def _lock(connection: AsyncConnection) -> None:
    # The second replica waits here, and then finds the first one's key.
    await connection.execute(select(epochs.c.access).with_for_update())


async def _replace(
    connection: AsyncConnection, secret_key: SecretKey, ring: Ring, algorithm: Algorithm
) -> str:
    """Add a key, and let the others of the ring ``token`` verify for :data:`KEEP`."""
    if ring == "token":
        await connection.execute(
            update(keys)
            .where(keys.c.ring == ring, keys.c.retired_at.is_(None))
            .values(retired_at=db_time(SETTLE + KEEP))
        )
    kid = str(uuid7())
    private: PrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    await connection.execute(
        insert(keys).values(
            kid=kid,
            ring=ring,
            algorithm=algorithm,
            public_pem=public.decode(),
            private_wrapped=secret_key.wrap(pem, name=_wrap_name(ring, kid)),
            created_at=db_time(),
        )
    )
    await move_epoch(connection, "access")
    return kid


async def _read(connection: AsyncConnection, secret_key: SecretKey, ring: Ring) -> KeyRing | None:
    microseconds = type_coerce(db_time(), BigInteger) - type_coerce(keys.c.created_at, BigInteger)
    query = select(
        keys.c.kid, keys.c.algorithm, keys.c.public_pem, keys.c.private_wrapped, microseconds.label("age")
    ).where(keys.c.ring == ring, or_(keys.c.retired_at.is_(None), keys.c.retired_at > db_time()))
    rows = (await connection.execute(query.order_by(keys.c.created_at.desc(), keys.c.kid.desc()))).all()
    if not rows:
        return None
    signing = next((row for row in rows if timedelta(microseconds=row.age) >= SETTLE), rows[-1])
    private = serialization.load_pem_private_key(
        secret_key.unwrap(signing.private_wrapped, name=_wrap_name(ring, signing.kid)), password=None
    )
    assert isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
    return KeyRing(
        kid=signing.kid,
        algorithm=signing.algorithm,
        private=private,
        public={row.kid: _verifier(row.algorithm, row.public_pem) for row in rows},
        age=timedelta(microseconds=rows[0].age),
    )


def _verifier(algorithm: Algorithm, pem: str) -> Verifier:
    public = serialization.load_pem_public_key(pem.encode())
    assert isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
    return Verifier(algorithm, public)


_SHOWN = select(
    keys.c.kid, keys.c.ring, keys.c.algorithm, keys.c.public_pem, keys.c.created_at, keys.c.retired_at
)


def _wrap_name(ring: Ring, kid: str) -> str:
    return f"{ring}/{kid}"
