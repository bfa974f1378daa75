"""Sign-ins that failed, and from where an account has signed in: what throttling goes by on all replicas."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    # A hash of what is counted: a name, a place, or both.
    Column("key", Bytewise, primary_key=True),
    Column("kind", Text, nullable=False),
    # When all of them are forgotten; each failure puts it off.
    Column("empty_at", UtcTime, nullable=False),
    Index(None, "kind", "empty_at"),
)

sign_in_places = Table(
    "sign_in_places",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    # An IPv4 address or an IPv6 network.
    Column("place", Bytewise, primary_key=True),
    Column("last_at", UtcTime, nullable=False, index=True),
)
