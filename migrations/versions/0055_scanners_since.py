"""since when a scanner has been looking, whichever of its images"""

import sqlalchemy as sa
from alembic import op


revision = '0055'
down_revision = '0054'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('scanners', sa.Column('since', sa.BigInteger(), nullable=True))
