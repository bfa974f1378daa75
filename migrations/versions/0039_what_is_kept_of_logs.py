"""how long trials of a repository are kept, and how much of their logs"""

import sqlalchemy as sa
from alembic import op


revision = '0039'
down_revision = '0038'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('repositories', sa.Column('trial_keep_days', sa.Integer(), nullable=True))
    op.add_column('repositories', sa.Column('log_keep_bytes', sa.BigInteger(), nullable=True))
    op.add_column('runs', sa.Column('log_removed', sa.Boolean(), nullable=True))
    op.add_column('parts', sa.Column('log_bytes', sa.BigInteger(), nullable=True))
    size = 'octet_length(log)' if op.get_bind().dialect.name == 'postgresql' else 'length(CAST(log AS BLOB))'
    op.execute(
        f"UPDATE parts SET log_bytes = (SELECT sum({size}) FROM runs WHERE runs.part_id = parts.id) "
        "WHERE state = 'done'"
    )
    where = sa.text('log_bytes > 0')
    op.create_index(
        op.f('ix_parts_logs'),
        'parts',
        ['repository_id', 'finished_at', 'log_bytes'],
        unique=False,
        postgresql_where=where,
        sqlite_where=where,
    )
