"""multipart uploads"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('multipart_uploads',
    sa.Column('locator', BYTEWISE, nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('held_until', TIME, nullable=True),
    sa.Column('length', sa.BigInteger(), nullable=False),
    sa.Column('multipart_id', sa.Text(), nullable=True),
    sa.Column('next_part', sa.Integer(), nullable=False),
    sa.Column('tail_bytes', sa.BigInteger(), nullable=False),
    sa.Column('tail_epoch', sa.Integer(), nullable=False),
    sa.Column('finishing', sa.Boolean(), nullable=False),
    sa.Column('written_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('locator', name=op.f('pk_multipart_uploads'))
    )
    with op.batch_alter_table('multipart_uploads', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_multipart_uploads_written_at'), ['written_at'], unique=False)

    op.create_table('multipart_parts',
    sa.Column('locator', BYTEWISE, nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('etag', sa.Text(), nullable=False),
    sa.Column('checksum', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['locator'], ['multipart_uploads.locator'], name=op.f('fk_multipart_parts_locator'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('locator', 'number', name=op.f('pk_multipart_parts'))
    )
