"""what workers say of their disks"""

import sqlalchemy as sa
from alembic import op


revision = '0027'
down_revision = '0026'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ('disk_bytes', 'disk_most_bytes'):
        op.add_column('workers', sa.Column(column, sa.BigInteger(), nullable=True))
