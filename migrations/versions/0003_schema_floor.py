"""say how old a version may be that still runs on the schema"""

import sqlalchemy as sa
from alembic import op


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('schema_floor',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('oldest', sa.Text(), nullable=False),
    sa.CheckConstraint('id = 1', name=op.f('ck_schema_floor_single')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_schema_floor'))
    )
    op.execute("INSERT INTO schema_floor (id, oldest) VALUES (1, '0001')")
