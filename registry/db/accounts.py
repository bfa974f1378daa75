"""Accounts, API tokens, workers and the wrapped key rings."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
    text,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime


def _given(*columns: str, unique: bool = False) -> Index:
    where = text(f"{columns[0]} IS NOT NULL")
    return Index(None, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


def _unrevoked(*columns: str) -> Index:
    where = text("revoked_at IS NULL")
    return Index(None, *columns, postgresql_where=where, sqlite_where=where)


accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Bytewise, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('user', 'worker', 'robot')", name="kind"),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("is_auditor", Boolean, nullable=False, server_default=false()),
    # A robot's; it goes with it.
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True),
    Column("password_hash", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    # Registry tokens, refresh tokens and sessions from before are refused, those of that very time are not;
    # API tokens have their own times.
    Column("credentials_after", UtcTime),
    Index(None, "kind", "name"),
    # Administrators are few, and all are held where one might be the last.
    Index(
        "ix_accounts_administrators",
        "id",
        postgresql_where=text("is_admin"),
        sqlite_where=text("is_admin = 1"),
    ),
    # A number that was an account's is never given to another one.
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    # A uuid7: ids are in the order of their making.
    Column("id", Bytewise, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    # SHA-256 of the secret: 256 random bits need no slow hash, and a look-up compares nothing by hand.
    Column("secret_hash", Bytewise, nullable=False, unique=True),
    # JSON list of scope strings; null is everything its account may do.
    Column("scopes", Text),
    # JSON list of the networks that it may be used from; null is everywhere.
    Column("networks", Text),
    # The limited token that this one was made with, and the one that it stands in for. They may be gone with
    # their account.
    Column("made_by", Bytewise),
    Column("replaces", Bytewise),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("last_used_address", Text),
    Column("last_used_client", Text),
    # When it was told that it will expire.
    Column("expiry_told_at", UtcTime),
    Index(None, "account_id", "id"),
    # Few tokens have these. An index with all the others in it would look to SQLite as if it told nothing.
    _given("made_by", "id"),
    # A token has one successor.
    _given("replaces", unique=True),
    # Pages of the list by each of its filters.
    Index(None, "revoked_at", "id"),
    _unrevoked("expires_at", "id"),
    _unrevoked("last_used_at", "created_at", "id"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    # The API token it was made with; null: the account's password.
    Column("token_id", Bytewise, ForeignKey("tokens.id", ondelete="CASCADE"), index=True),
    Column("secret_hash", Bytewise, nullable=False, unique=True),
    Column("client", Text, nullable=False),
    Column("address", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime),
)

workers = Table(
    "workers",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("drain_at", UtcTime),
    Column("last_seen_at", UtcTime),
    Column("address", Text),
    Column("platforms", Text, nullable=False, default="[]"),
    # JSON list of the mechanisms of isolation that its runs can have, and of what it knows of run specs that
    # not every worker does; null: it does not say.
    Column("mechanisms", Text),
    # JSON list of what it ran its last job with, by its report: the runtime, and what it went without.
    Column("ran_with", Text),
    # When it was let in again after it was revoked; null: it never was.
    Column("admitted_at", UtcTime),
    # What it said of its disk: what one more image may take now, and with nothing else there; null: nothing.
    Column("disk_bytes", BigInteger),
    Column("disk_most_bytes", BigInteger),
    # What it is bound to. JSON lists: the namespaces that it tries (null: all), the labels that it has, the
    # networks that it may come from (null: all).
    Column("namespaces", Text),
    Column("labels", Text, nullable=False, server_default="[]"),
    Column("networks", Text),
    # How many leases it may hold at once; null: as many as it says that it has room for.
    Column("slots", Integer),
)

keys = Table(
    "keys",
    metadata,
    Column("kid", Bytewise, primary_key=True),
    # 'token' signs registry tokens, 'attestation' signs verdicts; a key serves one ring only.
    Column("ring", Text, nullable=False),
    CheckConstraint("ring IN ('token', 'attestation')", name="ring"),
    Column("algorithm", Text, nullable=False),
    Column("public_pem", Text, nullable=False),
    Column("private_wrapped", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("retired_at", UtcTime),
    Index(None, "ring", "created_at"),
)
