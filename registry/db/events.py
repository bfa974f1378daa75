"""Events (the outbox of webhooks, and the audit trail), pulls by day, and the epochs that tell caches when to
look again."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime


def _some(*columns: str, where: str) -> Index:
    """For what few events have."""
    return Index(None, *columns, postgresql_where=text(where), sqlite_where=text(where))


events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    # By name, not by row: an event outlives what it tells of. A namespace has a slash at its end.
    Column("repository", Bytewise),
    # What was acted on, where that is no repository and no namespace.
    Column("target", Bytewise),
    Column("actor", Text, nullable=False),
    # This and what follows is null in events from before there was an audit trail.
    Column("actor_kind", Text),
    Column("account_id", Id),
    # The API token or the session that it came with.
    Column("token_id", Bytewise),
    Column("address", Text),
    # The User-Agent: what it says that it is, and nothing that was checked.
    Column("client", Text),
    # 'allowed' or 'refused', and by which right or rule.
    Column("decision", Text, nullable=False, server_default="allowed"),
    Column("rule", Text),
    Column("data", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    # Where it stands in the feed; null until that is decided (registry.events.sequence).
    Column("position", BigInteger),
    # Pages of the trail, newest first, by each of its filters.
    Index(None, "at", "id"),
    Index(None, "repository", "at", "id"),
    Index(None, "actor", "at", "id"),
    Index(None, "kind", "at", "id"),
    _some("target", "at", "id", where="target IS NOT NULL"),
    _some("token_id", "at", "id", where="token_id IS NOT NULL"),
    _some("decision", "at", "id", where="decision = 'refused'"),
    Index(None, "position", unique=True),
    _some("id", where="position IS NULL"),
)

pull_days = Table(
    "pull_days",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # All by name, as in events.
    Column("digest", Bytewise, nullable=False),
    # Days since 1970, of UTC.
    Column("day", Integer, nullable=False),
    Column("repository", Bytewise, nullable=False),
    Column("actor", Bytewise, nullable=False),
    Column("count", BigInteger, nullable=False),
    # Of the last of them: when, from where, and by which tag, if by one.
    Column("last_at", UtcTime, nullable=False),
    Column("address", Text),
    Column("tag", Bytewise),
    UniqueConstraint("digest", "day", "repository", "actor"),
    Index(None, "day"),
    # What was pulled lately from a repository.
    Index(None, "repository", "day"),
)

audit_keeping = Table(
    "audit_keeping",
    metadata,
    Column("id", Integer, primary_key=True),
    CheckConstraint("id = 1", name="single"),
    # Events up to this id are counted in the two that follow; to count them all takes long.
    Column("counted_id", BigInteger, nullable=False, server_default="0"),
    Column("event_rows", BigInteger, nullable=False, server_default="0"),
    Column("refused_rows", BigInteger, nullable=False, server_default="0"),
    Column("pull_rows", BigInteger, nullable=False, server_default="0"),
    # Rows that had to go before their time, ever, and when that was last told.
    Column("shortened_rows", BigInteger, nullable=False, server_default="0"),
    Column("shortened_at", UtcTime),
    # Up to here the feed may lack events that are no longer kept.
    Column("removed_position", BigInteger, nullable=False, server_default="0"),
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
