"""issuers of people and jobs, and what a job was"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('issuers',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('url', BYTEWISE, nullable=False),
    sa.Column('client_id', sa.Text(), nullable=True),
    sa.Column('client_secret', sa.LargeBinary(), nullable=True),
    sa.Column('scopes', sa.Text(), nullable=False),
    sa.Column('name_claim', sa.Text(), nullable=False),
    sa.Column('groups_claim', sa.Text(), nullable=True),
    sa.Column('groups', sa.Text(), nullable=False),
    sa.Column('roles', sa.Text(), nullable=False),
    sa.Column('conditions', sa.Text(), nullable=False),
    sa.Column('create_accounts', sa.Boolean(), server_default=sa.false(), nullable=False),
    sa.Column('run_url', sa.Text(), nullable=True),
    sa.Column('commit_claim', sa.Text(), nullable=True),
    sa.Column('created_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_issuers')),
    sa.UniqueConstraint('name', name=op.f('uq_issuers_name')),
    sa.UniqueConstraint('url', name=op.f('uq_issuers_url')),
    sqlite_autoincrement=True
    )
    op.create_table('identities',
    sa.Column('issuer_id', ID, nullable=False),
    sa.Column('subject', BYTEWISE, nullable=False),
    sa.Column('account_id', ID, nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('last_used_at', TIME, nullable=True),
    sa.ForeignKeyConstraint(['issuer_id'], ['issuers.id'], name=op.f('fk_identities_issuer_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_identities_account_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('issuer_id', 'subject', name=op.f('pk_identities'))
    )
    op.create_index(op.f('ix_identities_account_id'), 'identities', ['account_id'], unique=False)
    op.create_table('used_nonces',
    sa.Column('hash', BYTEWISE, nullable=False),
    sa.Column('expires_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('hash', name=op.f('pk_used_nonces'))
    )
    op.create_index(op.f('ix_used_nonces_expires_at'), 'used_nonces', ['expires_at'], unique=False)
    op.create_table('workload_rules',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('issuer_id', ID, nullable=False),
    sa.Column('account_id', ID, nullable=False),
    sa.Column('audience', sa.Text(), nullable=False),
    sa.Column('conditions', sa.Text(), nullable=False),
    sa.Column('scopes', sa.Text(), nullable=False),
    sa.Column('seconds', sa.Integer(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint('seconds BETWEEN 60 AND 3600', name=op.f('ck_workload_rules_seconds')),
    sa.ForeignKeyConstraint(['issuer_id'], ['issuers.id'], name=op.f('fk_workload_rules_issuer_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_workload_rules_account_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workload_rules')),
    sa.UniqueConstraint('name', name=op.f('uq_workload_rules_name')),
    sqlite_autoincrement=True
    )
    op.create_index(op.f('ix_workload_rules_account_id'), 'workload_rules', ['account_id'], unique=False)
    op.create_index(op.f('ix_workload_rules_issuer_id_audience_name'), 'workload_rules', ['issuer_id', 'audience', 'name'], unique=False)
    op.create_table('workload_tokens',
    sa.Column('token_id', BYTEWISE, nullable=False),
    sa.Column('rule_id', ID, nullable=False),
    sa.Column('workload', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['token_id'], ['tokens.id'], name=op.f('fk_workload_tokens_token_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['rule_id'], ['workload_rules.id'], name=op.f('fk_workload_tokens_rule_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('token_id', name=op.f('pk_workload_tokens'))
    )
    op.create_index(op.f('ix_workload_tokens_rule_id_created_at'), 'workload_tokens', ['rule_id', 'created_at'], unique=False)
    for table in ('manifests', 'tag_history', 'trials'):
        op.add_column(table, sa.Column('workload', sa.Text(), nullable=True))
