"""Promotions: tags that were moved from one repository to another, and those that somebody asked for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

promotions = Table(
    "promotions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where to.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("tag", Bytewise, nullable=False),
    # What, and where the tag stood when it was looked at; null: nowhere.
    Column("digest", Bytewise, nullable=False),
    Column("old_digest", Bytewise),
    # Where from: by name as it was then, and the row as long as it is there. Without a tag: by digest.
    Column("source", Bytewise, nullable=False),
    Column("source_id", Id, ForeignKey("repositories.id", ondelete="SET NULL"), index=True),
    Column("source_tag", Bytewise),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_account_id", Id),
    Column("requested_at", UtcTime, nullable=False),
    # A request that nobody has granted by then is over.
    Column("expires_at", UtcTime, nullable=False),
    Column("promoted_by", Text),
    Column("promoted_at", UtcTime),
    # The line of the tag's history that it made; null: the tag stood there already.
    Column("move_id", BigInteger),
    # A request that was refused or taken back.
    Column("ended_by", Text),
    Column("ended_at", UtcTime),
    Column("undone_by", Text),
    Column("undone_at", UtcTime),
    Index(None, "repository_id", "id"),
)
