"""blocks of packages, and which packages of scans they name"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0050'
down_revision = '0049'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite changes no constraint of a table: it is made anew.
    before = sa.Table('blocks', sa.MetaData(),
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint('repository_id IS NULL OR namespace_id IS NULL', name=op.f('ck_blocks_on_one')),
    sa.CheckConstraint("kind IN ('image', 'layer')", name=op.f('ck_blocks_kind')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_blocks_repository_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_blocks_namespace_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_blocks')),
    sa.Index(op.f('ix_blocks_digest'), 'digest'),
    sa.Index(op.f('ix_blocks_repository_id_id'), 'repository_id', 'id'),
    sa.Index(op.f('ix_blocks_namespace_id_id'), 'namespace_id', 'id'),
    )
    with op.batch_alter_table('blocks', copy_from=before) as batch_op:
        batch_op.drop_constraint(op.f('ck_blocks_kind'), type_='check')
        batch_op.create_check_constraint(op.f('ck_blocks_kind'), "kind IN ('image', 'layer', 'package')")
        batch_op.add_column(sa.Column('ecosystem', BYTEWISE, nullable=True))
        batch_op.add_column(sa.Column('package', BYTEWISE, nullable=True))
        batch_op.add_column(sa.Column('versions', sa.Text(), nullable=True))
    op.create_index(op.f('ix_blocks_package'), 'blocks', ['package'], unique=False)
    op.create_table('block_components',
    sa.Column('block_id', ID, autoincrement=False, nullable=False),
    sa.Column('component_id', ID, autoincrement=False, nullable=False),
    sa.ForeignKeyConstraint(['block_id'], ['blocks.id'], name=op.f('fk_block_components_block_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['component_id'], ['components.id'], name=op.f('fk_block_components_component_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('block_id', 'component_id', name=op.f('pk_block_components'))
    )
    op.create_index(op.f('ix_block_components_component_id_block_id'), 'block_components', ['component_id', 'block_id'], unique=False)
