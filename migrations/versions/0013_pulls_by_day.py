"""count pulls by day, and say how many rows the audit trail has"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('pull_days',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('day', sa.Integer(), nullable=False),
    sa.Column('repository', BYTEWISE, nullable=False),
    sa.Column('actor', BYTEWISE, nullable=False),
    sa.Column('count', sa.BigInteger(), nullable=False),
    sa.Column('last_at', TIME, nullable=False),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('tag', BYTEWISE, nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_pull_days')),
    sa.UniqueConstraint('digest', 'day', 'repository', 'actor', name=op.f('uq_pull_days_digest_day_repository_actor'))
    )
    op.create_index(op.f('ix_pull_days_day'), 'pull_days', ['day'], unique=False)
    op.create_table('audit_keeping',
    sa.Column('id', sa.Integer(), nullable=False),
    *(
        sa.Column(name, sa.BigInteger(), server_default='0', nullable=False)
        for name in ('counted_id', 'event_rows', 'refused_rows', 'pull_rows', 'shortened_rows')
    ),
    sa.Column('shortened_at', TIME, nullable=True),
    sa.CheckConstraint('id = 1', name=op.f('ck_audit_keeping_single')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_keeping'))
    )
