"""limit how much a repository may hold"""

import sqlalchemy as sa
from alembic import op


revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('repositories', sa.Column('quota_bytes', sa.BigInteger(), nullable=True))
