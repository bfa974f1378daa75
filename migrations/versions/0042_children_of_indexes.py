"""what indexes list, found by itself"""

import sqlalchemy as sa
from alembic import op


revision = '0042'
down_revision = '0041'
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("kind = 'child'")
    op.create_index('ix_edges_children', 'edges', ['digest', 'manifest_id'], unique=False, postgresql_where=where, sqlite_where=where)
