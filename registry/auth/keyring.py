"""Key rings: rows that every replica shares, private keys wrapped by the secret key.

The ring ``token`` (ES256) signs registry tokens. Each purpose has a ring of its own, so that what is signed
for one never passes for the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from registry.auth.secretkey import SecretKey
from registry.db.accounts import keys
from registry.db.engine import Database, move_epoch
from registry.db.events import epochs
from registry.db.types import db_time

ALGORITHM = "ES256"


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """The newest key signs; each key that is not retired verifies, found by its ``kid`` in a dict."""

    kid: str
    private: ec.EllipticCurvePrivateKey
    public: Mapping[str, ec.EllipticCurvePublicKey]


async def open_token_ring(database: Database, secret_key: SecretKey) -> KeyRing:
    """The ring ``token``; its first key is made where there is none, by one of the replicas that ask.

    Raises:
        SettingsError: the secret key is not the one that wrapped the rows.
    """
    async with database.read() as connection:
        ring = await _read(connection, secret_key)
    if ring is not None:
        return ring
    async with database.write() as connection:
        # The lock that makes the second replica wait, and then find the first one's key.
        await connection.execute(select(epochs.c.access).with_for_update())
        ring = await _read(connection, secret_key)
        if ring is None:
            await _add_key(connection, secret_key)
            await move_epoch(connection, "access")
            ring = await _read(connection, secret_key)
    assert ring is not None
    return ring


async def _add_key(connection: AsyncConnection, secret_key: SecretKey) -> None:
    kid = str(uuid7())
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    await connection.execute(
        insert(keys).values(
            kid=kid,
            ring="token",
            algorithm=ALGORITHM,
            public_pem=public.decode(),
            private_wrapped=secret_key.wrap(pem, name=_wrap_name(kid)),
            created_at=db_time(),
        )
    )


async def _read(connection: AsyncConnection, secret_key: SecretKey) -> KeyRing | None:
    rows = (
        await connection.execute(
            select(keys.c.kid, keys.c.public_pem, keys.c.private_wrapped)
            .where(keys.c.ring == "token", keys.c.algorithm == ALGORITHM, keys.c.retired_at.is_(None))
            .order_by(keys.c.created_at.desc(), keys.c.kid.desc())
        )
    ).all()
    if not rows:
        return None
    newest = rows[0]
    private = serialization.load_pem_private_key(
        secret_key.unwrap(newest.private_wrapped, name=_wrap_name(newest.kid)), password=None
    )
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    public: dict[str, ec.EllipticCurvePublicKey] = {}
    for row in rows:
        key = serialization.load_pem_public_key(row.public_pem.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        public[row.kid] = key
    return KeyRing(kid=newest.kid, private=private, public=public)


def _wrap_name(kid: str) -> str:
    return f"token/{kid}"
