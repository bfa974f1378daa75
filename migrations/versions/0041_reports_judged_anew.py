"""reports that are judged anew in another repository"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = '0041'
down_revision = '0040'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('parts', sa.Column('reused_from', BYTEWISE, nullable=True))
    op.add_column('workers', sa.Column('ran_with', sa.Text(), nullable=True))
    op.create_index(op.f('ix_parts_digest'), 'parts', ['digest'], unique=False)
