"""pages of who holds a role where, and the few administrators among the accounts"""

import sqlalchemy as sa
from alembic import op


revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ('namespace_id', 'repository_id', 'account_id', 'group_id'):
        op.create_index(op.f(f'ix_grants_{column}_id'), 'grants', [column, 'id'], unique=False)
    for column in ('account_id', 'group_id'):
        op.drop_index(op.f(f'ix_grants_{column}'), table_name='grants')
    op.create_index(
        'ix_accounts_administrators', 'accounts', ['id'], unique=False,
        postgresql_where=sa.text('is_admin'), sqlite_where=sa.text('is_admin = 1'),
    )
