"""what was seen in a trial, and pages of histories of trials"""

import sqlalchemy as sa
from alembic import op


revision = '0032'
down_revision = '0031'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('trials', sa.Column('seen', sa.Text(), nullable=True))
    for columns in (
        ('repository_id', 'digest', 'created_at', 'id'),
        ('repository_id', 'created_at', 'id'),
        ('repository_id', 'verdict', 'created_at', 'id'),
        ('created_at', 'id', 'repository_id'),
    ):
        op.create_index(op.f(f"ix_trials_{'_'.join(columns)}"), 'trials', list(columns), unique=False)
    for name in ('repository_id_digest', 'repository_id_created_at', 'created_at'):
        op.drop_index(op.f(f'ix_trials_{name}'), table_name='trials')
