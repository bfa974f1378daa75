"""chains: the layers of images as chain IDs, and what images say they were built on"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = '0047'
down_revision = '0046'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('manifests', sa.Column('chain_id', BYTEWISE, nullable=True))
    op.add_column('manifests', sa.Column('base_name', sa.Text(), nullable=True))
    op.add_column('manifests', sa.Column('base_digest', sa.Text(), nullable=True))
    op.create_index(op.f('ix_manifests_chain_id'), 'manifests', ['chain_id'], unique=False)
    unchained = sa.text('platform IS NOT NULL AND chain_id IS NULL')
    op.create_index('ix_manifests_unchained', 'manifests', ['id'], unique=False, postgresql_where=unchained, sqlite_where=unchained)
    op.create_table('chain_prefixes',
    sa.Column('manifest_id', ID, nullable=False),
    sa.Column('depth', sa.Integer(), nullable=False),
    sa.Column('chain_id', BYTEWISE, nullable=False),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_chain_prefixes_manifest_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('manifest_id', 'depth', name=op.f('pk_chain_prefixes'))
    )
    op.create_index(op.f('ix_chain_prefixes_chain_id'), 'chain_prefixes', ['chain_id'], unique=False)
