"""How much places may hold."""

from __future__ import annotations

from typing import Literal, get_args

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Table, Text, UniqueConstraint

from registry.db.tables import metadata
from registry.db.types import Id

Resource = Literal["bytes", "repositories", "tags", "uploads"]
"""What there is a quota for: logical bytes, repositories below a namespace, tags, open upload sessions."""

quotas = Table(
    "quotas",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Of what. A repository's bytes are limited by its own row, where versions before this table look.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE")),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE")),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    Column("resource", Text, nullable=False),
    CheckConstraint(f"resource IN ({', '.join(repr(each) for each in get_args(Resource))})", name="resource"),
    CheckConstraint("namespace_id IS NOT NULL OR resource IN ('tags', 'uploads')", name="has"),
    # So much of it at most.
    Column("most", BigInteger, nullable=False),
    UniqueConstraint("repository_id", "resource"),
    UniqueConstraint("namespace_id", "resource"),
)
