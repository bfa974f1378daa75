"""count the open uploads of an account"""

from alembic import op


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f('ix_upload_sessions_account_id'), 'upload_sessions', ['account_id'], unique=False)
