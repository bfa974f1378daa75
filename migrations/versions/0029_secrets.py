"""secrets that run specs name"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0029'
down_revision = '0028'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('secrets',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('value', sa.LargeBinary(), nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('rotated_at', TIME, nullable=True),
    sa.CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name=op.f('ck_secrets_on_one')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_secrets_repository_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_secrets_namespace_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_secrets')),
    sa.UniqueConstraint('repository_id', 'name', name=op.f('uq_secrets_repository_id_name')),
    sa.UniqueConstraint('namespace_id', 'name', name=op.f('uq_secrets_namespace_id_name'))
    )
