"""from when on images that turned bad are refused, as it was told"""

import sqlalchemy as sa
from alembic import op


revision = '0034'
down_revision = '0033'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('manifests', sa.Column('block_told_at', sa.BigInteger(), nullable=True))
