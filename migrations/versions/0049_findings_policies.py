"""findings policies, what came of them for each image, and waivers of one finding"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0049'
down_revision = '0048'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('findings_policies',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('document', sa.Text(), nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint('(repository_id IS NULL) <> (namespace_id IS NULL)', name=op.f('ck_findings_policies_on_one')),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_findings_policies_namespace_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_findings_policies_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_findings_policies')),
    sa.UniqueConstraint('namespace_id', name=op.f('uq_findings_policies_namespace_id')),
    sa.UniqueConstraint('repository_id', name=op.f('uq_findings_policies_repository_id'))
    )
    op.create_table('image_findings',
    sa.Column('manifest_id', ID, autoincrement=False, nullable=False),
    sa.Column('policy_digest', BYTEWISE, nullable=False),
    sa.Column('document_digest', BYTEWISE, nullable=True),
    sa.Column('verdict', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('reasons', sa.Text(), nullable=False),
    sa.Column('excused', sa.Text(), nullable=False),
    sa.Column('judged_at', TIME, nullable=False),
    sa.Column('changes_at', TIME, nullable=True),
    sa.Column('waits', sa.Boolean(), nullable=False),
    sa.Column('matching', ID, nullable=False),
    sa.CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'error')", name=op.f('ck_image_findings_verdict')),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_image_findings_manifest_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('manifest_id', name=op.f('pk_image_findings'))
    )
    op.create_index(op.f('ix_image_findings_changes_at'), 'image_findings', ['changes_at'], unique=False)
    op.create_index(op.f('ix_image_findings_waits_matching'), 'image_findings', ['waits', 'matching'], unique=False)
    op.add_column('waivers', sa.Column('finding', BYTEWISE, nullable=True))
    op.add_column('waivers', sa.Column('package', BYTEWISE, nullable=True))
