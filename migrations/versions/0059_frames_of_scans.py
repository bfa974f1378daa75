"""where in the document of a scan the entries of its lists are"""

import sqlalchemy as sa
from alembic import op


revision = '0059'
down_revision = '0058'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('scans', sa.Column('frames', sa.Text(), nullable=True))
