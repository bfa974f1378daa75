"""hooks, by which others ask for trials, and the messages that were taken"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0025'
down_revision = '0024'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('hooks',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('scheme', sa.Text(), nullable=False),
    sa.Column('mapping', sa.Text(), nullable=False),
    sa.Column('secret', sa.LargeBinary(), nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint("repository_id IS NULL OR namespace_id IS NULL", name=op.f('ck_hooks_on_one')),
    sa.CheckConstraint("scheme IN ('standard', 'github', 'gitlab', 'bearer')", name=op.f('ck_hooks_scheme')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_hooks_repository_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_hooks_namespace_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_hooks')),
    sa.UniqueConstraint('name', name=op.f('uq_hooks_name'))
    )
    op.create_index(op.f('ix_hooks_repository_id'), 'hooks', ['repository_id'], unique=False)
    op.create_index(op.f('ix_hooks_namespace_id'), 'hooks', ['namespace_id'], unique=False)
    op.create_table('hook_messages',
    sa.Column('hook_id', BYTEWISE, nullable=False),
    sa.Column('key', BYTEWISE, nullable=False),
    sa.Column('trials', sa.Text(), nullable=False),
    sa.Column('at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['hook_id'], ['hooks.id'], name=op.f('fk_hook_messages_hook_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('hook_id', 'key', name=op.f('pk_hook_messages'))
    )
    op.create_index(op.f('ix_hook_messages_at'), 'hook_messages', ['at'], unique=False)
    op.create_index(op.f('ix_hook_messages_hook_id_at'), 'hook_messages', ['hook_id', 'at'], unique=False)
    op.create_table('hook_trials',
    sa.Column('trial_id', BYTEWISE, nullable=False),
    sa.Column('hook_id', BYTEWISE, nullable=False),
    sa.ForeignKeyConstraint(['trial_id'], ['trials.id'], name=op.f('fk_hook_trials_trial_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['hook_id'], ['hooks.id'], name=op.f('fk_hook_trials_hook_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('trial_id', name=op.f('pk_hook_trials'))
    )
    op.create_index(op.f('ix_hook_trials_hook_id'), 'hook_trials', ['hook_id'], unique=False)
    with op.batch_alter_table('webhooks') as batch:
        batch.add_column(sa.Column('hook_id', BYTEWISE, nullable=True))
        batch.create_foreign_key(op.f('fk_webhooks_hook_id'), 'hooks', ['hook_id'], ['id'], ondelete='CASCADE')
    op.create_index(op.f('ix_webhooks_hook_id'), 'webhooks', ['hook_id'], unique=False)
