"""under which limits a part was claimed, and since when a worker that was revoked is trusted again"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = '0045'
down_revision = '0044'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('parts', sa.Column('limits_digest', BYTEWISE, nullable=True))
    op.add_column('workers', sa.Column('admitted_at', sa.BigInteger(), nullable=True))
