"""where in the document of a scan the entries of its lists are"""

import sqlalchemy as sa
from alembic import op


revision = '0062'
down_revision = '0061'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('scans', sa.Column('frames', sa.Text(), nullable=True))
