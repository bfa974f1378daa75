"""Upstreams: other registries whose images are tried, and the copies of such images that are due."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

_OPEN = text("run_after IS NOT NULL")

upstreams = Table(
    "upstreams",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("name", Bytewise, nullable=False, unique=True),
    # Whose writers may have its images tried.
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), nullable=False, index=True),
    # The hidden one, which holds the copies.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("host", Text, nullable=False),
    Column("plain_http", Boolean, nullable=False),
    # Where its token service is, if on another host that is told the credential too.
    Column("token_host", Text),
    # JSON list: names of repositories there, with ``*``.
    Column("repositories", Text, nullable=False),
    # How large an image may be.
    Column("max_bytes", BigInteger, nullable=False),
    Column("username", Text),
    # Wrapped by the secret key; null: it is asked as nobody.
    Column("secret", LargeBinary),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "repository_id", unique=True),
)

upstream_copies = Table(
    "upstream_copies",
    metadata,
    # Of the trial that waits for it.
    Column("trial_id", Bytewise, ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("upstream_id", Bytewise, ForeignKey("upstreams.id", ondelete="CASCADE"), nullable=False),
    # As it was asked for: a repository there, with tag or digest.
    Column("image", Text, nullable=False),
    # Canonical JSON of the run spec; null: the image suggests.
    Column("run_spec", Text),
    # When it is taken; while somebody is at it, when another one may. Null: it is over.
    Column("run_after", UtcTime),
    Column("lease", Bytewise),
    Column("attempts", Integer, nullable=False),
    Index(None, "upstream_id"),
    Index("ix_upstream_copies_open", "run_after", "trial_id", postgresql_where=_OPEN, sqlite_where=_OPEN),
)
