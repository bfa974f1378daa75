"""caps on what is tried in a namespace and for an actor"""

import sqlalchemy as sa
from alembic import op


revision = '0037'
down_revision = '0036'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('namespaces', sa.Column('trial_queue_max', sa.Integer(), nullable=True))
    op.add_column('namespaces', sa.Column('trial_seconds_per_hour', sa.Integer(), nullable=True))
    op.add_column('parts', sa.Column('asked_by', sa.Text(), nullable=True))
    op.create_table('trial_seconds',
    sa.Column('place', sa.Text().with_variant(sa.Text(collation='C'), 'postgresql'), nullable=False),
    sa.Column('counts_until', sa.BigInteger(), nullable=False),
    sa.Column('seconds', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('place', 'counts_until', name=op.f('pk_trial_seconds'))
    )
