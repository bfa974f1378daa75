"""which other scanners look at the images of a place"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0052'
down_revision = '0051'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('scanners',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('image', BYTEWISE, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint('(repository_id IS NULL) <> (namespace_id IS NULL)', name=op.f('ck_scanners_on_one')),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_scanners_namespace_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_scanners_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_scanners')),
    sa.UniqueConstraint('namespace_id', 'name', name=op.f('uq_scanners_namespace_id_name')),
    sa.UniqueConstraint('repository_id', 'name', name=op.f('uq_scanners_repository_id_name'))
    )
