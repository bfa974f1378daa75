"""Repositories, blobs and their links, upload sessions, manifests and their edges, attestations, tags and
their history."""

from __future__ import annotations

from typing import Literal, get_args

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
    false,
    text,
    true,
)

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

IMAGE_STATES = (
    "pass",
    "warn",
    "not-applicable",
    "grandfathered",
    "pending",
    "fail",
    "error",
    "untried",
    "unsupported",
)
"""What is materialised on an image's row. ``expired`` follows from the time of the verdict and ``blocked``
from the reason a person gave; both are above what stands here."""

repositories = Table(
    "repositories",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Bytewise, nullable=False, unique=True),
    Column(
        "visibility",
        Text,
        nullable=False,
    ),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="visibility"),
    Column("gate", Text, nullable=False),
    CheckConstraint("gate IN ('off', 'warn', 'enforce', 'hold')", name="gate"),
    Column("trial_on_push", Boolean, nullable=False),
    # JSON list of patterns of tags: what is pushed under no such tag is not tried; null: all are.
    Column("trial_tags", Text),
    # Whether what is tried is scanned as well.
    Column("scan", Boolean, nullable=False, server_default=true()),
    Column("image_spec_allowed", Boolean, nullable=False, default=False),
    # Canonical JSON of the repository's run spec; null leaves the smoke test to what the image suggests.
    Column("run_spec", Text),
    # Counts up when what a verdict means here changes; part of what a verdict binds to.
    Column("policy_version", Integer, nullable=False, default=1),
    # Bytes of blobs and manifests that it may hold; null: no limit.
    Column("quota_bytes", BigInteger),
    # What an image does that passed and turns bad: keep, warn, or block after some days; null: block at once.
    Column("turned_bad", Text),
    Column("turned_bad_days", Integer),
    # How long its trials are kept, and how much of their logs; null: as the settings say.
    Column("trial_keep_days", Integer),
    Column("log_keep_bytes", BigInteger),
    # What a worker must be labelled with to try its images; null: nothing.
    Column("worker_label", Text),
    # How long lines of its tags' history are kept that say where a tag stood and stands no more, and how many
    # of each tag; null: for ever, and as many as there are by default.
    Column("history_keep_days", Integer),
    Column("history_keep_lines", Integer),
    Column("created_at", UtcTime, nullable=False),
    # The catalog of those who see some kinds only.
    Index(None, "visibility", "name"),
    # Those with a quota of bytes. Few have one.
    Index(
        "ix_repositories_quota",
        "name",
        postgresql_where=text("quota_bytes IS NOT NULL"),
        sqlite_where=text("quota_bytes IS NOT NULL"),
    ),
)

blobs = Table(
    "blobs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("digest", Bytewise, nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    # Where the bytes are. Never used again for other bytes, so a late unlink cannot hit a new push.
    Column("locator", Bytewise, nullable=False, unique=True),
    # When these bytes came: those that healed the blob, if any did.
    Column("created_at", UtcTime, nullable=False),
    # What is wrong with the bytes (registry.content.quarantine.Damage): nobody is given them. Null: nothing
    # that is known.
    Column("damage", Text),
    Column("damaged_at", UtcTime),
    Index(
        "ix_blobs_damaged",
        "id",
        postgresql_where=text("damage IS NOT NULL"),
        sqlite_where=text("damage IS NOT NULL"),
    ),
)

blob_links = Table(
    "blob_links",
    metadata,
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("blob_id", Id, ForeignKey("blobs.id", ondelete="RESTRICT"), primary_key=True, index=True),
    Column("created_at", UtcTime, nullable=False),
    # Since when it may be that no manifest of the repository names the blob; null: some does.
    Column("review_at", UtcTime, server_default=text("0")),
    # None did at the last look. Whoever asks for the blob takes that back.
    Column("condemned", Boolean, nullable=False, default=False, server_default=false()),
    Index(
        None,
        "review_at",
        postgresql_where=text("review_at IS NOT NULL"),
        sqlite_where=text("review_at IS NOT NULL"),
    ),
)

upload_sessions = Table(
    "upload_sessions",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column(
        "repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), index=True),
    # The API token it was begun with; null is the account's password, or an older version of the registry.
    Column("token_id", Bytewise),
    # How the blob store finds the bytes received so far; how many there are only it can say truly.
    Column("locator", Bytewise, nullable=False),
    Column("digest_algorithm", Text, nullable=False, default="sha256"),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
)

manifest_contents = Table(
    "manifest_contents",
    metadata,
    # The bytes as received, once for all repositories.
    Column("digest", Bytewise, primary_key=True),
    Column("raw", LargeBinary, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("digest", Bytewise, ForeignKey("manifest_contents.digest"), nullable=False, index=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    # What a referrers list shows: artifactType, else the config's media type; null: left out.
    Column("artifact_type", Text),
    Column("annotations", Text, nullable=False, default="{}"),
    Column("subject_digest", Bytewise),
    Column("runnable", Boolean, nullable=False),
    # os/architecture[/variant] of a runnable image, from its config; null for everything else.
    Column("platform", Text),
    Column(
        "state",
        Text,
        CheckConstraint(f"state IN ({', '.join(repr(state) for state in IMAGE_STATES)})", name="state"),
        nullable=False,
    ),
    Column("state_reason", Text, nullable=False, default=""),
    Column("state_at", UtcTime, nullable=False),
    Column("grandfathered_until", UtcTime),
    Column("blocked_reason", Text),
    # When an image that had passed was judged otherwise; null: it has not, or passes again.
    Column("turned_bad_at", UtcTime),
    # From when on it will be refused as that, as an event said; null: none did.
    Column("block_told_at", UtcTime),
    Column("pushed_by", Text, nullable=False, default=""),
    # JSON of the job that did it (registry.auth.actor.Workload), where one did.
    Column("workload", Text),
    # Where an image comes from, by its annotations or the labels of its config
    # (org.opencontainers.image.source and .revision).
    Column("source", Text),
    Column("revision", Text),
    # JSON object of the labels of an image's config, some of them; null: not looked at.
    Column("labels", Text),
    # The chain ID of all its layers, as its config has them; empty: that says none; null: not looked at yet.
    Column("chain_id", Bytewise, index=True),
    # What it says it was built on (org.opencontainers.image.base.name and .digest).
    Column("base_name", Text),
    Column("base_digest", Text),
    Column("pushed_at", UtcTime, nullable=False),
    # When it was last pushed although it was there, to the hour; null: never.
    Column("pushed_again_at", UtcTime),
    # The row of the registry's own word that this is, with which it goes; null for all that was pushed.
    Column("attestation_id", Id, index=True),
    UniqueConstraint("repository_id", "digest"),
    # What no worker is given. Few are.
    Index(
        "ix_manifests_blocked",
        "repository_id",
        "digest",
        postgresql_where=text("blocked_reason IS NOT NULL"),
        sqlite_where=text("blocked_reason IS NOT NULL"),
    ),
    # Whose layers are still to be looked at: those that an older version stored.
    Index(
        "ix_manifests_unchained",
        "id",
        postgresql_where=text("platform IS NOT NULL AND chain_id IS NULL"),
        sqlite_where=text("platform IS NOT NULL AND chain_id IS NULL"),
    ),
    # Pages of referrers, all or of one artifact type. Few manifests have a subject.
    *(
        Index(
            None,
            "repository_id",
            "subject_digest",
            *columns,
            postgresql_where=text("subject_digest IS NOT NULL"),
            sqlite_where=text("subject_digest IS NOT NULL"),
        )
        for columns in (("id",), ("artifact_type", "id"))
    ),
)

chain_prefixes = Table(
    "chain_prefixes",
    metadata,
    Column("manifest_id", Id, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    # So many of its layers, the lowest; fewer than it has.
    Column("depth", Integer, primary_key=True),
    # The chain ID of these.
    Column("chain_id", Bytewise, nullable=False, index=True),
)

STATE_COLUMNS = (
    manifests.c.state,
    manifests.c.state_reason,
    manifests.c.state_at,
    manifests.c.grandfathered_until,
    manifests.c.blocked_reason,
    manifests.c.turned_bad_at,
)
"""What the state of an image is made of: the members of :class:`registry.trials.states.ImageState`."""

attestations = Table(
    "attestations",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    # Of the image or index that it is about.
    Column("digest", Bytewise, nullable=False),
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('result', 'summary', 'cyclonedx', 'spdx', 'matches')", name="kind"),
    # A result's; empty for all others, of which an image has one each.
    Column("spec_digest", Bytewise, nullable=False),
    # JSON of what was found, as it was when it was found: nothing that changes later is signed for it.
    Column("found", Text, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    # Not to be signed before: somebody is at it, or has failed.
    Column("run_after", UtcTime, nullable=False),
    Column("signed_at", UtcTime),
    Column("kid", Bytewise),
    # Why it is never signed, as it is.
    Column("left_out", Text),
    UniqueConstraint("repository_id", "digest", "kind", "spec_digest"),
    Index(None, "signed_at", "id"),
    Index(None, "kid"),
)

attestation_marks = Table(
    "attestation_marks",
    metadata,
    # How far the sweep has looked for verdicts that are not attested, by when they were made.
    Column("kind", Text, primary_key=True),
    CheckConstraint("kind IN ('part', 'trial')", name="kind"),
    Column("looked_until", UtcTime, nullable=False),
)

kept_documents = Table(
    "kept_documents",
    metadata,
    # What attestations name by digest: run specs and policies, canonical JSON.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", Bytewise, primary_key=True),
    Column("content", Text, nullable=False),
)

edges = Table(
    "edges",
    metadata,
    Column("manifest_id", Id, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('config', 'layer', 'child')", name="kind"),
    Column("digest", Bytewise, nullable=False, index=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Index(
        "ix_edges_children",
        "digest",
        "manifest_id",
        postgresql_where=text("kind = 'child'"),
        sqlite_where=text("kind = 'child'"),
    ),
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Bytewise, primary_key=True),
    Column("manifest_id", Id, ForeignKey("manifests.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("updated_at", UtcTime, nullable=False),
    Column("updated_by", Text, nullable=False),
    # Orders tags as versions (registry.oci.versions.version_key); empty: not looked at.
    Column("version_key", Bytewise, nullable=False, server_default=text("''")),
    # Pages of tags by version and by age.
    Index(None, "repository_id", "version_key", "name"),
    Index(None, "repository_id", "updated_at", "name"),
    # What an older version has written.
    Index(
        "ix_tags_unversioned",
        "repository_id",
        "name",
        postgresql_where=text("version_key = ''"),
        sqlite_where=text("version_key = ''"),
    ),
)

TagAction = Literal[
    "push", "delete", "rollback", "promotion", "restore", "move", "copy", "retention", "import"
]
"""Why a tag moved."""

tag_history = Table(
    "tag_history",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("name", Bytewise, nullable=False),
    Column(
        "action",
        Text,
        nullable=False,
    ),
    CheckConstraint(
        f"action IN ({', '.join(repr(action) for action in get_args(TagAction))})", name="action"
    ),
    Column("old_digest", Bytewise),
    Column("new_digest", Bytewise),
    Column("actor", Text, nullable=False),
    Column("address", Text),
    # The API token that it was done with; null: none, or an older version did it.
    Column("token_id", Bytewise),
    # As in manifests.
    Column("workload", Text),
    Column("reason", Text),
    Column("at", UtcTime, nullable=False),
    # Since when the tag no longer stands where this says; null: it does. That it was deleted is over at once.
    Column("over_at", UtcTime),
    Index(None, "repository_id", "name", "id"),
    Index(
        None,
        "repository_id",
        "over_at",
        postgresql_where=text("over_at IS NOT NULL"),
        sqlite_where=text("over_at IS NOT NULL"),
    ),
    # Pages of tags that were deleted. By time, which no other index has: so it is this one that is read.
    Index(
        "ix_tag_history_deleted",
        "repository_id",
        "at",
        "id",
        postgresql_where=text("new_digest IS NULL"),
        sqlite_where=text("new_digest IS NULL"),
    ),
)

deleted_manifests = Table(
    "deleted_manifests",
    metadata,
    # What was deleted and can be brought back: no collection takes its bytes before the grace is over.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    # A version that does not know of this may take the bytes.
    Column(
        "digest",
        Bytewise,
        ForeignKey("manifest_contents.digest", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("media_type", Text, nullable=False),
    Column("deleted_by", Text, nullable=False),
    Column("deleted_at", UtcTime, nullable=False, index=True),
    UniqueConstraint("repository_id", "digest"),
)
