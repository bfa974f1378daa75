"""what is signed of verdicts, and the documents that it names"""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attestations",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("repository_id", ID, nullable=False),
        sa.Column("digest", BYTEWISE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("spec_digest", BYTEWISE, nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("run_after", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("kid", BYTEWISE, nullable=True),
        sa.CheckConstraint("kind IN ('result', 'summary')", name=op.f("ck_attestations_kind")),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_attestations_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attestations")),
        sa.UniqueConstraint(
            "repository_id",
            "digest",
            "kind",
            "spec_digest",
            name=op.f("uq_attestations_repository_id_digest_kind_spec_digest"),
        ),
    )
    op.create_index(op.f("ix_attestations_signed_at_id"), "attestations", ["signed_at", "id"], unique=False)
    op.create_index(op.f("ix_attestations_kid"), "attestations", ["kid"], unique=False)
    op.create_table(
        "kept_documents",
        sa.Column("repository_id", ID, nullable=False),
        sa.Column("digest", BYTEWISE, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_kept_documents_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", name=op.f("pk_kept_documents")),
    )
    op.add_column("manifests", sa.Column("attestation_id", ID, nullable=True))
    op.create_index(op.f("ix_manifests_attestation_id"), "manifests", ["attestation_id"], unique=False)
