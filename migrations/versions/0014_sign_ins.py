"""throttle sign-ins on all replicas together"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('sign_in_failures',
    sa.Column('key', BYTEWISE, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('empty_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_sign_in_failures'))
    )
    op.create_index(op.f('ix_sign_in_failures_kind_empty_at'), 'sign_in_failures', ['kind', 'empty_at'], unique=False)
    op.create_table('sign_in_places',
    sa.Column('account_id', ID, nullable=False),
    sa.Column('place', BYTEWISE, nullable=False),
    sa.Column('last_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_sign_in_places_account_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('account_id', 'place', name=op.f('pk_sign_in_places'))
    )
    op.create_index(op.f('ix_sign_in_places_last_at'), 'sign_in_places', ['last_at'], unique=False)
