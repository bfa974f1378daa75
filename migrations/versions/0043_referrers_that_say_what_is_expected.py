"""referrers that say what is expected of an image"""

import sqlalchemy as sa
from alembic import op


revision = '0043'
down_revision = '0042'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('parts', sa.Column('image_specs', sa.Text(), nullable=True))
