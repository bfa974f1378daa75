"""when a manifest that was there was last pushed again"""

import sqlalchemy as sa
from alembic import op


revision = '0064'
down_revision = '0063'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('manifests', sa.Column('pushed_again_at', sa.BigInteger(), nullable=True))
