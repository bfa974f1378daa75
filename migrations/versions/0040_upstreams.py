"""upstreams: other registries whose images are tried"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0040'
down_revision = '0039'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('upstreams',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('namespace_id', ID, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('plain_http', sa.Boolean(), nullable=False),
    sa.Column('token_host', sa.Text(), nullable=True),
    sa.Column('repositories', sa.Text(), nullable=False),
    sa.Column('max_bytes', sa.BigInteger(), nullable=False),
    sa.Column('username', sa.Text(), nullable=True),
    sa.Column('secret', sa.LargeBinary(), nullable=True),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_upstreams_namespace_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_upstreams_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_upstreams')),
    sa.UniqueConstraint('name', name=op.f('uq_upstreams_name'))
    )
    op.create_index(op.f('ix_upstreams_namespace_id'), 'upstreams', ['namespace_id'], unique=False)
    op.create_index(op.f('ix_upstreams_repository_id'), 'upstreams', ['repository_id'], unique=True)
    op.create_table('upstream_copies',
    sa.Column('trial_id', BYTEWISE, nullable=False),
    sa.Column('upstream_id', BYTEWISE, nullable=False),
    sa.Column('image', sa.Text(), nullable=False),
    sa.Column('run_spec', sa.Text(), nullable=True),
    sa.Column('run_after', TIME, nullable=True),
    sa.Column('lease', BYTEWISE, nullable=True),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['trial_id'], ['trials.id'], name=op.f('fk_upstream_copies_trial_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['upstream_id'], ['upstreams.id'], name=op.f('fk_upstream_copies_upstream_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('trial_id', name=op.f('pk_upstream_copies'))
    )
    op.create_index(op.f('ix_upstream_copies_upstream_id'), 'upstream_copies', ['upstream_id'], unique=False)
    where = sa.text('run_after IS NOT NULL')
    op.create_index(op.f('ix_upstream_copies_open'), 'upstream_copies', ['run_after', 'trial_id'], unique=False, postgresql_where=where, sqlite_where=where)
    with op.batch_alter_table('hooks') as batch:
        batch.add_column(sa.Column('upstream_id', BYTEWISE, nullable=True))
        batch.create_foreign_key(op.f('fk_hooks_upstream_id'), 'upstreams', ['upstream_id'], ['id'], ondelete='CASCADE')
    op.create_index(op.f('ix_hooks_upstream_id'), 'hooks', ['upstream_id'], unique=False)
