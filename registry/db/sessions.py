"""Cookie sessions of people."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

sessions = Table(
    "sessions",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
    # The API token that was given for a password: the session ends with it.
    Column("token_id", Bytewise, ForeignKey("tokens.id", ondelete="CASCADE"), index=True),
    # SHA-256 of the cookie's value: 256 random bits need no slow hash.
    Column("secret_hash", Bytewise, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime, nullable=False),
    # Put off by each use, up to the longest life of a session.
    Column("expires_at", UtcTime, nullable=False, index=True),
    Column("address", Text),
    Column("client", Text),
    Index(None, "account_id", "id"),
)
