"""isolation that workers have, and that run specs demand"""

import sqlalchemy as sa
from alembic import op


revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('workers', sa.Column('mechanisms', sa.Text(), nullable=True))
    op.add_column('parts', sa.Column('required', sa.Text(), nullable=True))
