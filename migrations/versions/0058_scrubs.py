"""blobs whose bytes are damaged, and scrubs, which find them"""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0058'
down_revision = '0057'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('blobs', sa.Column('damage', sa.Text(), nullable=True))
    op.add_column('blobs', sa.Column('damaged_at', TIME, nullable=True))
    damaged = sa.text('damage IS NOT NULL')
    op.create_index('ix_blobs_damaged', 'blobs', ['id'], unique=False, postgresql_where=damaged, sqlite_where=damaged)
    op.create_table('scrubs',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('asked_by', sa.Text(), nullable=False),
    sa.Column('asked_at', TIME, nullable=False),
    sa.Column('leased_until', TIME, nullable=False),
    sa.Column('bytes_per_second', sa.BigInteger(), nullable=False),
    sa.Column('position', ID, nullable=False),
    sa.Column('last_blob', ID, nullable=False),
    sa.Column('blobs_total', sa.BigInteger(), nullable=False),
    sa.Column('bytes_total', sa.BigInteger(), nullable=False),
    sa.Column('blobs_checked', sa.BigInteger(), nullable=False),
    sa.Column('bytes_checked', sa.BigInteger(), nullable=False),
    sa.Column('damaged', sa.Integer(), nullable=False),
    sa.Column('recovered', sa.Integer(), nullable=False),
    sa.Column('stopped', sa.Text(), nullable=True),
    sa.Column('ended_at', TIME, nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_scrubs'))
    )
