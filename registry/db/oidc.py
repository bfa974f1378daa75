"""Issuers whose people and jobs are let in, who is whom, and by which rules jobs get tokens."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

issuers = Table(
    "issuers",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Bytewise, nullable=False, unique=True),
    # Exactly as its tokens name it.
    Column("url", Bytewise, nullable=False, unique=True),
    # Null: no person signs in with it.
    Column("client_id", Text),
    # Wrapped by the secret key; null: a public client.
    Column("client_secret", LargeBinary),
    # JSON: what is asked for besides openid.
    Column("scopes", Text, nullable=False),
    Column("name_claim", Text, nullable=False),
    Column("groups_claim", Text),
    # JSON objects: from a value of that claim to a group of ours, and to 'administrator' or 'auditor'.
    Column("groups", Text, nullable=False),
    Column("roles", Text, nullable=False),
    # JSON list of conditions that a person's claims have to meet.
    Column("conditions", Text, nullable=False),
    Column("create_accounts", Boolean, nullable=False, server_default=false()),
    # How the claims of a job give the address of its run and its commit.
    Column("run_url", Text),
    Column("commit_claim", Text),
    Column("created_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

identities = Table(
    "identities",
    metadata,
    Column("issuer_id", Id, ForeignKey("issuers.id", ondelete="CASCADE"), primary_key=True),
    # Who somebody is: nothing else of a token (no address, no name) tells.
    Column("subject", Bytewise, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime),
)

used_nonces = Table(
    "used_nonces",
    metadata,
    # SHA-256 of the nonce of a sign-in that succeeded: it is not done twice.
    Column("hash", Bytewise, primary_key=True),
    Column("expires_at", UtcTime, nullable=False, index=True),
)

workload_rules = Table(
    "workload_rules",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Bytewise, nullable=False, unique=True),
    Column("issuer_id", Id, ForeignKey("issuers.id", ondelete="CASCADE"), nullable=False),
    # Whom a job acts as.
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("audience", Text, nullable=False),
    # JSON list of conditions; all have to hold.
    Column("conditions", Text, nullable=False),
    # JSON list of scopes, as a token has them.
    Column("scopes", Text, nullable=False),
    Column("seconds", Integer, nullable=False),
    CheckConstraint("seconds BETWEEN 60 AND 3600", name="seconds"),
    Column("created_at", UtcTime, nullable=False),
    # In which order they are tried.
    Index(None, "issuer_id", "audience", "name"),
    sqlite_autoincrement=True,
)

workload_tokens = Table(
    "workload_tokens",
    metadata,
    # API tokens that jobs were given; what ends a rule deletes them.
    Column("token_id", Bytewise, ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("rule_id", Id, ForeignKey("workload_rules.id", ondelete="CASCADE"), nullable=False),
    # JSON of what the job is (registry.auth.actor.Workload).
    Column("workload", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "rule_id", "created_at"),
)
