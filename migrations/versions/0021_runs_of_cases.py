"""of which case a run is, which attempt, and how many of them failed before one passed"""

import sqlalchemy as sa
from alembic import op


revision = '0021'
down_revision = '0020'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('runs', sa.Column('case_name', sa.Text(), nullable=True))
    op.add_column('runs', sa.Column('case_attempt', sa.Integer(), nullable=True))
    op.add_column('parts', sa.Column('flaky', sa.Integer(), nullable=True))
