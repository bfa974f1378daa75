"""Which signatures are required, which were pushed, and which of them meet what is required."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, LargeBinary, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

signature_rules = Table(
    "signature_rules",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where it counts.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), index=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    Column("name", Text, nullable=False),
    # Who must have signed: who holds the key, or whom the issuer calls so.
    Column("public_pem", Text),
    Column("issuer", Text),
    Column("subject", Text),
    CheckConstraint("(public_pem IS NULL) <> (issuer IS NULL)", name="by_one"),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

signatures = Table(
    "signatures",
    metadata,
    # The referrer that holds it.
    Column("manifest_id", Id, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("subject_digest", Bytewise, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    # As its certificate said when it was pushed, which was verified then; null: it was made with a bare key.
    Column("issuer", Text),
    Column("subject", Text),
    Index(None, "repository_id", "subject_digest"),
)

signature_matches = Table(
    "signature_matches",
    metadata,
    Column("rule_id", Id, ForeignKey("signature_rules.id", ondelete="CASCADE"), primary_key=True),
    Column("manifest_id", Id, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("subject_digest", Bytewise, nullable=False),
    Index(None, "repository_id", "subject_digest", "rule_id"),
)
