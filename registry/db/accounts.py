"""Accounts, API tokens, workers and the wrapped key rings."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    false,
    text,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

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
    # Registry tokens, refresh tokens and sessions from before are refused; API tokens have their own times.
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
    Column("id", Bytewise, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    # SHA-256 of the secret: 256 random bits need no slow hash, and a look-up compares nothing by hand.
    Column("secret_hash", Bytewise, nullable=False, unique=True),
    # JSON list of scope strings; null is everything its account may do.
    Column("scopes", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
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
