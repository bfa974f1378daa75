"""Webhooks, what is delivered by them, and where the feed of events stands."""

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
    UniqueConstraint,
    literal_column,
    text,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime


def _where(condition: str, *columns: str) -> Index:
    return Index(None, *columns, postgresql_where=text(condition), sqlite_where=text(condition))


event_feed = Table(
    "event_feed",
    metadata,
    Column("id", Integer, primary_key=True),
    CheckConstraint("id = 1", name="single"),
    # The last position given to an event. Whoever holds this row gives the next ones: they are committed in
    # their order, which the numbers of rows are not.
    Column("position", BigInteger, nullable=False, server_default="0"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Bytewise, primary_key=True),
    # Whose events; neither: those of everything.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), index=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True),
    CheckConstraint("repository_id IS NULL OR namespace_id IS NULL", name="on_one"),
    # Only of trials that this hook asked for: it calls back for it.
    Column("hook_id", Bytewise, ForeignKey("hooks.id", ondelete="CASCADE"), index=True),
    Column("url", Text, nullable=False),
    # JSON list of kinds of events, with * for any text.
    Column("kinds", Text, nullable=False),
    Column("format", Text, nullable=False),
    CheckConstraint("format IN ('cloudevents', 'docker')", name="format"),
    # Whether the deliveries of one repository go one after the other.
    Column("ordered", Boolean, nullable=False),
    # Wrapped by the secret key. The old one signs as well until then.
    Column("secret", LargeBinary, nullable=False),
    Column("old_secret", LargeBinary),
    Column("old_secret_until", UtcTime),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    Column("disabled_reason", Text),
    # When a process is to look what is due; null: nothing waits. Whoever has the lease is at it until then.
    Column("next_at", UtcTime),
    Column("lease", Text),
    # Rounds since the last delivery that came through, and when they began; none is tried before hold_until.
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failing_since", UtcTime),
    Column("hold_until", UtcTime),
    Column("last_delivered_at", UtcTime),
    _where("next_at IS NOT NULL", "next_at"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("webhook_id", Bytewise, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    # Where its event stands in the feed; null: a test.
    Column("position", BigInteger),
    Column("kind", Text, nullable=False),
    Column("repository", Bytewise),
    Column("format", Text, nullable=False),
    # JSON as it is sent, the same at each attempt.
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state"),
    # Null while others of its repository go first, and when it is over.
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # JSON list of the last attempts (registry.events.attempts.Attempt).
    Column("log", Text, nullable=False, server_default="[]"),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    # An event is delivered once by a webhook, whoever saw it.
    UniqueConstraint("webhook_id", "position"),
    Index(None, "webhook_id", "id"),
    _where("due_at IS NOT NULL", "webhook_id", "due_at"),
    _where("state = 'pending'", "webhook_id", "repository", "position"),
    _where("state = 'pending'", "created_at"),
    _where("finished_at IS NOT NULL", "finished_at"),
)

PENDING = deliveries.c.state == literal_column("'pending'")
"""As the indexes say it: with a parameter no database sees that it is the same."""
