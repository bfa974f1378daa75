"""Namespaces, groups, and the roles that somebody holds on a namespace or a repository."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

namespaces = Table(
    "namespaces",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Without the slash at its end.
    Column("name", Bytewise, nullable=False, unique=True),
    # Of new repositories in it; null: as the settings say.
    Column("visibility", Text),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="visibility"),
    # Whether a push may make a repository; null: as the settings say.
    Column("create_on_push", Boolean),
    # The gate of new repositories in it, likewise.
    Column("gate", Text),
    # Whether images of new repositories in it are scanned; null: as one above says, else they are.
    Column("scan", Boolean),
    # Whether somebody else than who asked for a waiver has to grant it; null: what one above says, else not.
    Column("waivers_by_two", Boolean),
    # Whether somebody else has to grant what is promoted into its repositories, likewise.
    Column("promotions_by_two", Boolean),
    # How many images may wait to be tried in it, and how many seconds of runs it may have within an hour.
    # Null: as the settings say of one that is in no other, else any.
    Column("trial_queue_max", Integer),
    Column("trial_seconds_per_hour", Integer),
    Column("created_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

groups = Table(
    "groups",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Bytewise, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", Id, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True),
    # Who says so: empty is by hand, else the name of the issuer at whose sign-ins it is taken and given.
    Column("source", Bytewise, primary_key=True),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE")),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE")),
    CheckConstraint("(namespace_id IS NULL) <> (repository_id IS NULL)", name="on_one"),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE")),
    Column("group_id", Id, ForeignKey("groups.id", ondelete="CASCADE")),
    CheckConstraint("(account_id IS NULL) <> (group_id IS NULL)", name="to_one"),
    Column("role", Text, nullable=False),
    CheckConstraint("role IN ('reader', 'writer', 'maintainer', 'owner')", name="role"),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("namespace_id", "account_id", name="uq_grants_namespace_account"),
    UniqueConstraint("namespace_id", "group_id", name="uq_grants_namespace_group"),
    UniqueConstraint("repository_id", "account_id", name="uq_grants_repository_account"),
    UniqueConstraint("repository_id", "group_id", name="uq_grants_repository_group"),
    # Pages of who holds a role there, and of what somebody holds.
    *(Index(None, column, "id") for column in ("namespace_id", "repository_id", "account_id", "group_id")),
)

tombstones = Table(
    "tombstones",
    metadata,
    # A repository's name that was given up, and when last: what was granted by that name before is void.
    Column("name", Bytewise, primary_key=True),
    Column("deleted_at", UtcTime, nullable=False),
    # Where that moved the access epoch to: what was signed under an older one was signed before.
    Column("epoch", BigInteger, nullable=False, server_default="0", index=True),
)
