"""scans: what was found in images, the packages in them, and whether a part was scanned"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0046'
down_revision = '0045'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('scans',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('document_digest', BYTEWISE, nullable=False),
    sa.Column('blob_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('platform', sa.Text(), nullable=False),
    sa.Column('scanner', sa.Text(), nullable=False),
    sa.Column('system', sa.Text(), nullable=False),
    sa.Column('packages', sa.Integer(), nullable=False),
    sa.Column('found', sa.Integer(), nullable=False),
    sa.Column('incomplete', sa.Integer(), nullable=False),
    sa.Column('truncated', sa.Boolean(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['blob_id'], ['blobs.id'], name=op.f('fk_scans_blob_id'), ondelete='RESTRICT'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_scans')),
    sa.UniqueConstraint('document_digest', name=op.f('uq_scans_document_digest'))
    )
    op.create_index(op.f('ix_scans_blob_id'), 'scans', ['blob_id'], unique=False)
    op.create_table('image_scans',
    sa.Column('manifest_id', ID, autoincrement=False, nullable=False),
    sa.Column('scan_id', ID, nullable=False),
    sa.Column('worker', sa.Text(), nullable=False),
    sa.Column('taken_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_image_scans_manifest_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['scan_id'], ['scans.id'], name=op.f('fk_image_scans_scan_id'), ondelete='RESTRICT'),
    sa.PrimaryKeyConstraint('manifest_id', name=op.f('pk_image_scans'))
    )
    op.create_index(op.f('ix_image_scans_scan_id'), 'image_scans', ['scan_id'], unique=False)
    op.create_table('components',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('key', BYTEWISE, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('ecosystem', BYTEWISE, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('version', BYTEWISE, nullable=False),
    sa.Column('source', BYTEWISE, nullable=False),
    sa.Column('source_version', BYTEWISE, nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_components')),
    sa.UniqueConstraint('key', name=op.f('uq_components_key'))
    )
    for column in ('name', 'source'):
        columns = [column, 'ecosystem']
        op.create_index(op.f(f'ix_components_{column}_ecosystem'), 'components', columns, unique=False)
    op.create_table('scan_components',
    sa.Column('scan_id', ID, autoincrement=False, nullable=False),
    sa.Column('component_id', ID, autoincrement=False, nullable=False),
    sa.Column('owned', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['component_id'], ['components.id'], name=op.f('fk_scan_components_component_id'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['scan_id'], ['scans.id'], name=op.f('fk_scan_components_scan_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('scan_id', 'component_id', name=op.f('pk_scan_components'))
    )
    columns = ['component_id', 'scan_id']
    op.create_index(op.f('ix_scan_components_component_id_scan_id'), 'scan_components', columns, unique=False)
    op.add_column('repositories', sa.Column('scan', sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column('namespaces', sa.Column('scan', sa.Boolean(), nullable=True))
    op.add_column('parts', sa.Column('scan', sa.Text(), nullable=True))
