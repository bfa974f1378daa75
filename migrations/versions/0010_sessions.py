"""keep the cookie sessions of people"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('sessions',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('account_id', ID, nullable=False),
    sa.Column('token_id', BYTEWISE, nullable=True),
    sa.Column('secret_hash', BYTEWISE, nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('last_used_at', TIME, nullable=False),
    sa.Column('expires_at', TIME, nullable=False),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('client', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_sessions_account_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['token_id'], ['tokens.id'], name=op.f('fk_sessions_token_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_sessions')),
    sa.UniqueConstraint('secret_hash', name=op.f('uq_sessions_secret_hash'))
    )
    op.create_index(op.f('ix_sessions_account_id_id'), 'sessions', ['account_id', 'id'], unique=False)
    op.create_index(op.f('ix_sessions_token_id'), 'sessions', ['token_id'], unique=False)
    op.create_index(op.f('ix_sessions_expires_at'), 'sessions', ['expires_at'], unique=False)
