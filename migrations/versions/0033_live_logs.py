"""the output of runs that go on"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = '0033'
down_revision = '0032'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('live_logs',
    sa.Column('lease', BYTEWISE, nullable=False),
    sa.Column('run', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('position', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('part_id', BYTEWISE, nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=True),
    sa.Column('text', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['part_id'], ['parts.id'], name=op.f('fk_live_logs_part_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('lease', 'run', 'position', name=op.f('pk_live_logs')),
    )
    op.create_index(op.f('ix_live_logs_part_id'), 'live_logs', ['part_id'], unique=False)
