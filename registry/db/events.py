"""Events (the outbox of webhooks and the audit trail) and the epochs that tell caches when to look again."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    # By name, not by row: an event outlives what it tells of.
    Column("repository", Bytewise),
    Column("actor", Text, nullable=False),
    Column("address", Text),
    Column("data", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "repository", "id"),
)

epochs = Table(
    "epochs",
    metadata,
    Column("id", Integer, primary_key=True),
    CheckConstraint("id = 1", name="single"),
    Column("content", BigInteger, nullable=False, default=0),
    Column("access", BigInteger, nullable=False, default=0),
    Column("gate", BigInteger, nullable=False, default=0),
)
