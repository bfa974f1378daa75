"""Which other scanners look at the images of a place."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Table, Text, UniqueConstraint

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

scanners = Table(
    "scanners",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where it looks; one of the same name nearer by looks in its place.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE")),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE")),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    # Under which it tells what it finds.
    Column("name", Bytewise, nullable=False),
    # Its image, of this registry, as it was when it was set.
    Column("image", Bytewise, nullable=False),
    Column("digest", Bytewise, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # Since when images of that name in that repository have been looking; null: since this one was set.
    Column("since", UtcTime),
    UniqueConstraint("repository_id", "name"),
    UniqueConstraint("namespace_id", "name"),
)
