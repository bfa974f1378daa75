"""Hooks: messages of others that ask for trials, and those that were taken already."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, LargeBinary, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

hooks = Table(
    "hooks",
    metadata,
    Column("id", Bytewise, primary_key=True),
    # In its address.
    Column("name", Bytewise, nullable=False, unique=True),
    # Whose images it may have tried; neither: all.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), index=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True),
    CheckConstraint("repository_id IS NULL OR namespace_id IS NULL", name="on_one"),
    Column("scheme", Text, nullable=False),
    CheckConstraint("scheme IN ('standard', 'github', 'gitlab', 'bearer')", name="scheme"),
    # JSON: a name of those that are built in, or an object of JSON pointers.
    Column("mapping", Text, nullable=False),
    # Wrapped by the secret key. The old one is taken as well until then.
    Column("secret", LargeBinary, nullable=False),
    Column("old_secret", LargeBinary),
    Column("old_secret_until", UtcTime),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # The registry whose images its messages name; null: this one.
    Column("upstream_id", Bytewise, ForeignKey("upstreams.id", ondelete="CASCADE"), index=True),
)

hook_messages = Table(
    "hook_messages",
    metadata,
    Column("hook_id", Bytewise, ForeignKey("hooks.id", ondelete="CASCADE"), primary_key=True),
    # Its id, or the digest of its body where the signature covers no id.
    Column("key", Bytewise, primary_key=True),
    # JSON list of the trials that it asked for: the answer to whoever sends it again.
    Column("trials", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "at"),
    Index(None, "hook_id", "at"),
)

hook_trials = Table(
    "hook_trials",
    metadata,
    Column("trial_id", Bytewise, ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("hook_id", Bytewise, ForeignKey("hooks.id", ondelete="CASCADE"), nullable=False, index=True),
)
