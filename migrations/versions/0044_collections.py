"""collections: links to look at again, bytes that nothing names any more"""

import sqlalchemy as sa
from alembic import op


revision = '0044'
down_revision = '0043'
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
BYTEWISE = sa.Text().with_variant(sa.Text(collation='C'), 'postgresql')


def upgrade() -> None:
    op.create_table('collections',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('asked_by', sa.Text(), nullable=False),
    sa.Column('asked_at', sa.BigInteger(), nullable=False),
    sa.Column('leased_until', sa.BigInteger(), nullable=False),
    sa.Column('phase', sa.Text(), nullable=False),
    sa.Column('position', BYTEWISE, nullable=False),
    sa.Column('links_condemned', sa.Integer(), nullable=False),
    sa.Column('links_removed', sa.Integer(), nullable=False),
    sa.Column('blobs_removed', sa.Integer(), nullable=False),
    sa.Column('manifests_removed', sa.Integer(), nullable=False),
    sa.Column('strays_removed', sa.Integer(), nullable=False),
    sa.Column('freed_bytes', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.CheckConstraint("phase IN ('links', 'blobs', 'manifests', 'bytes', 'strays', 'done')", name=op.f('ck_collections_phase')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_collections'))
    )
    op.create_table('dead_blobs',
    sa.Column('locator', BYTEWISE, nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('died_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('locator', name=op.f('pk_dead_blobs'))
    )
    # Of all that is there nobody has looked yet whether a manifest names it.
    op.add_column('blob_links', sa.Column('review_at', sa.BigInteger(), server_default=sa.text('0'), nullable=True))
    op.add_column('blob_links', sa.Column('condemned', sa.Boolean(), server_default=sa.false(), nullable=False))
    where = sa.text('review_at IS NOT NULL')
    op.create_index(op.f('ix_blob_links_review_at'), 'blob_links', ['review_at'], unique=False, postgresql_where=where, sqlite_where=where)
