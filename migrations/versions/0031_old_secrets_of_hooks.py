"""secrets of hooks that are taken for a while beside the new one"""

import sqlalchemy as sa
from alembic import op


revision = '0031'
down_revision = '0030'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('hooks', sa.Column('old_secret', sa.LargeBinary(), nullable=True))
    op.add_column('hooks', sa.Column('old_secret_until', sa.BigInteger(), nullable=True))
