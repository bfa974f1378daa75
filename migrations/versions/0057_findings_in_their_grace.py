"""what findings count for once their grace is over"""

import sqlalchemy as sa
from alembic import op


revision = '0057'
down_revision = '0056'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('image_findings', sa.Column('coming', sa.Text(), nullable=True))
