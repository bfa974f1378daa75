"""the order in which parts are claimed, and trials that end when no tag names their image"""

import sqlalchemy as sa
from alembic import op


revision = '0035'
down_revision = '0034'
branch_labels = None
depends_on = None


def _while(condition: str, name: str, *columns: str, table: str = 'parts') -> None:
    where = sa.text(condition)
    op.create_index(op.f(f'ix_{table}_{name}'), table, list(columns), unique=False, postgresql_where=where, sqlite_where=where)


def upgrade() -> None:
    op.add_column('parts', sa.Column('urgency', sa.Integer(), server_default='0', nullable=False))
    op.add_column('parts', sa.Column('turn', sa.BigInteger(), server_default='0', nullable=False))
    op.add_column('parts', sa.Column('size_bytes', sa.BigInteger(), nullable=True))
    # A version before claims without it as well, only slower.
    op.drop_index(op.f('ix_parts_state_run_after_id'), table_name='parts')
    _while("state = 'queued'", 'queue', 'urgency', 'turn', 'id')
    _while("state = 'queued'", 'queue_of', 'repository_id', 'urgency', 'turn')
    _while("state = 'queued'", 'queue_platform', 'platform')
    _while("state = 'queued'", 'queue_required', 'required')
    _while("state <> 'queued'", 'begun', 'urgency', 'turn')
    for column in ('lease_account_id', 'lease_expires_at'):
        op.drop_index(op.f(f'ix_parts_{column}'), table_name='parts')
        _while(f'{column} IS NOT NULL', column, column)
    _while('blocked_reason IS NOT NULL', 'blocked', 'repository_id', 'digest', table='manifests')
    op.add_column('trials', sa.Column('by_tag', sa.Boolean(), nullable=True))
