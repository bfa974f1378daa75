"""retention: policies, their runs, and what each has deleted"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0056'
down_revision = '0055'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('retention_policies',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('document', sa.Text(), nullable=False),
    sa.Column('next_at', TIME, nullable=True),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint('(repository_id IS NULL) <> (namespace_id IS NULL)', name=op.f('ck_retention_policies_on_one')),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_retention_policies_namespace_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_retention_policies_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_retention_policies')),
    sa.UniqueConstraint('namespace_id', name=op.f('uq_retention_policies_namespace_id')),
    sa.UniqueConstraint('repository_id', name=op.f('uq_retention_policies_repository_id'))
    )
    op.create_index(op.f('ix_retention_policies_next_at'), 'retention_policies', ['next_at'], unique=False)
    op.create_table('retention_runs',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('document', sa.Text(), nullable=False),
    sa.Column('cap', sa.Integer(), nullable=False),
    sa.Column('cap_percent', sa.Integer(), nullable=False),
    sa.Column('asked_by', sa.Text(), nullable=False),
    sa.Column('asked_at', TIME, nullable=False),
    sa.Column('leased_until', TIME, nullable=False),
    sa.Column('tags_deleted', sa.Integer(), nullable=False),
    sa.Column('manifests_deleted', sa.Integer(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=True),
    sa.Column('detail', sa.Text(), nullable=True),
    sa.Column('ended_at', TIME, nullable=True),
    sa.CheckConstraint("outcome IN ('done', 'stopped')", name=op.f('ck_retention_runs_outcome')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_retention_runs_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_retention_runs'))
    )
    op.create_index(op.f('ix_retention_runs_ended_at'), 'retention_runs', ['ended_at'], unique=False)
    op.create_index(op.f('ix_retention_runs_repository_id_id'), 'retention_runs', ['repository_id', 'id'], unique=False)
    unended = sa.text('ended_at IS NULL')
    op.create_index('ix_retention_runs_open', 'retention_runs', ['id'], unique=False, postgresql_where=unended, sqlite_where=unended)
    op.create_table('retention_items',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('run_id', ID, nullable=False),
    sa.Column('tag', BYTEWISE, nullable=True),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('why', sa.Text(), nullable=False),
    sa.Column('undone_at', TIME, nullable=True),
    sa.Column('undone', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['run_id'], ['retention_runs.id'], name=op.f('fk_retention_items_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_retention_items'))
    )
    op.create_index(op.f('ix_retention_items_run_id_id'), 'retention_items', ['run_id', 'id'], unique=False)
    op.create_index(op.f('ix_pull_days_repository_day'), 'pull_days', ['repository', 'day'], unique=False)
