"""Trials, their parts (which are the queue), and their runs."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    and_,
    text,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime, db_time


def _while(condition: str, name: str, *columns: str) -> Index:
    """An index of some rows, for statements that write the same condition out."""
    where = text(condition)
    return Index(f"ix_parts_{name}", *columns, postgresql_where=where, sqlite_where=where)


trials = Table(
    "trials",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    # Of the image or index that was pushed.
    Column("digest", Bytewise, nullable=False),
    Column("spec_digest", Bytewise, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    CheckConstraint("cause IN ('push', 'request')", name="cause"),
    Column("state", Text, nullable=False),
    CheckConstraint("state IN ('queued', 'running', 'done')", name="state"),
    Column(
        "verdict",
        Text,
    ),
    CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'error')", name="verdict"),
    Column("reason", Text, nullable=False, default=""),
    Column("created_by", Text, nullable=False),
    # Whether it was pushed under a tag: it is dropped when none names it any more.
    Column("by_tag", Boolean),
    # JSON of the job that asked for it or pushed the image, where one did.
    Column("workload", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    # JSON of what was seen, in short, of one that is done: its parts may be asked again.
    Column("seen", Text),
    # Pages of histories: of an image, of a repository, of those with a verdict, of all.
    Index(None, "repository_id", "digest", "created_at", "id"),
    Index(None, "repository_id", "created_at", "id"),
    Index(None, "repository_id", "verdict", "created_at", "id"),
    Index(None, "created_at", "id", "repository_id"),
    Index(None, "finished_at", "id"),
)

parts = Table(
    "parts",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    # Of one image manifest, never of an index.
    Column("digest", Bytewise, nullable=False),
    Column("platform", Text, nullable=False),
    Column("spec_digest", Bytewise, nullable=False),
    Column("policy_version", Integer, nullable=False),
    # Canonical JSON of the run spec; null: the image suggests.
    Column("run_spec", Text),
    # JSON list of what a worker must say of itself, sorted: the mechanisms that the spec demands, and what of
    # it not every worker knows; null: nothing.
    Column("required", Text),
    Column("image_spec_allowed", Boolean, nullable=False),
    # JSON list of the digests of referrers that say what else is expected of the image; null: there are none.
    Column("image_specs", Text),
    Column("state", Text, nullable=False),
    CheckConstraint("state IN ('queued', 'leased', 'done')", name="state"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("run_after", UtcTime, nullable=False),
    # When it is claimed among those that are due: by urgency, then by turn (registry.trials.scheduling).
    Column("urgency", Integer, nullable=False, server_default="0"),
    Column("turn", BigInteger, nullable=False, server_default="0"),
    # Who asked for it last; null: the registry, or a version before queued it.
    Column("asked_by", Text),
    # Of the layers of the image, and of its services, as they are stored; null: a version before queued it.
    Column("size_bytes", BigInteger),
    # Of the limits in force where its spec says nothing, as of its last claim; null: not claimed, or by a
    # version before.
    Column("limits_digest", Bytewise),
    Column("lease", Bytewise, unique=True),
    Column("lease_account_id", Id, ForeignKey("accounts.id", ondelete="SET NULL")),
    Column("lease_expires_at", UtcTime),
    Column(
        "verdict",
        Text,
    ),
    CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'error', 'unsupported')", name="verdict"),
    Column("reason", Text, nullable=False, default=""),
    Column("worker", Text),
    # JSON of what the worker reported, without its runs.
    Column("record", Text),
    # The trial whose report was judged anew; null: it was run for this part.
    Column("reused_from", Bytewise),
    # JSON of whether its image was scanned, and how much was found (registry.trials.scanned); null: it was
    # not handed out, or a version before did.
    Column("scan", Text),
    # How many attempts of cases failed before one passed; null: none.
    Column("flaky", Integer),
    # Of the logs of its runs that are kept; null: it has none, or a version before stored them.
    Column("log_bytes", BigInteger),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    # What a verdict binds to (ARCHITECTURE.md 3.5): the same question is asked once.
    UniqueConstraint("repository_id", "digest", "platform", "spec_digest", "policy_version"),
    Index(None, "finished_at", "id"),
    # The same image in other repositories.
    Index(None, "digest"),
    # Few parts have a lease.
    _while("lease_account_id IS NOT NULL", "lease_account_id", "lease_account_id"),
    _while("lease_expires_at IS NOT NULL", "lease_expires_at", "lease_expires_at"),
    _while("state = 'queued'", "queue", "urgency", "turn", "id"),
    _while("state = 'queued'", "queue_of", "repository_id", "urgency", "turn"),
    _while("state = 'queued'", "queue_platform", "platform"),
    _while("state = 'queued'", "queue_required", "required"),
    _while("state <> 'queued'", "begun", "urgency", "turn"),
    _while("log_bytes > 0", "logs", "repository_id", "finished_at", "log_bytes"),
)


def is_leased(lease: str, account_id: int) -> ColumnElement[bool]:
    """Whether a part has this lease of a worker's account, and it lives."""
    return and_(
        parts.c.lease == lease,
        parts.c.lease_account_id == account_id,
        parts.c.state == "leased",
        parts.c.lease_expires_at > db_time(),
    )


trial_parts = Table(
    "trial_parts",
    metadata,
    Column("trial_id", Bytewise, ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("part_id", Bytewise, ForeignKey("parts.id", ondelete="CASCADE"), primary_key=True, index=True),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("part_id", Bytewise, ForeignKey("parts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("name", Text, nullable=False),
    # Of which case of the spec, and which attempt at it, where there are several.
    Column("case_name", Text),
    Column("case_attempt", Integer),
    Column("command", Text, nullable=False),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("reason", Text, nullable=False),
    Column("oom_killed", Boolean, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float),
    Column("memory_peak_bytes", BigInteger),
    Column("log", Text, nullable=False),
    Column("log_truncated", Boolean, nullable=False),
    # Whether it had a log that is no longer kept.
    Column("log_removed", Boolean),
    Column("observations", Text, nullable=False),
    Column("finished_at", UtcTime, nullable=False),
)

# Seconds of runs, added up for five minutes, of namespaces (with a slash at the end) and actors with a cap.
trial_seconds = Table(
    "trial_seconds",
    metadata,
    Column("place", Bytewise, primary_key=True),
    # An hour after those five minutes.
    Column("counts_until", UtcTime, primary_key=True),
    Column("seconds", Float, nullable=False),
)

# Output of runs that go on, for whoever watches: of one lease, and gone with it.
live_logs = Table(
    "live_logs",
    metadata,
    Column("lease", Bytewise, primary_key=True),
    # Which of the runs of its report it will be, and how many characters of its log come before.
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("part_id", Bytewise, ForeignKey("parts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("attempt", Integer),
    Column("text", Text, nullable=False),
)
