"""when a name was given up, by the epoch; namespaces of the repositories there are; trials of one by time"""

import sqlalchemy as sa
from alembic import op


revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('tombstones', sa.Column('epoch', sa.BigInteger(), server_default='0', nullable=False))
    op.create_index(op.f('ix_tombstones_epoch'), 'tombstones', ['epoch'], unique=False)
    op.create_index(
        op.f('ix_trials_repository_id_created_at'), 'trials', ['repository_id', 'created_at'], unique=False
    )
    # Roles are given on namespaces: one for each repository that was there before there were any.
    if op.get_bind().dialect.name == 'postgresql':
        namespace, now = "regexp_replace(name, '/[^/]*$', '')", "EXTRACT(EPOCH FROM clock_timestamp())"
    else:
        # What is left of the name without the letters after its last slash, and without that.
        namespace = "rtrim(rtrim(name, replace(name, '/', '')), '/')"
        now = "(julianday('now') - 2440587.5) * 86400.0"
    op.execute(
        "INSERT INTO namespaces (name, created_at) "
        f"SELECT DISTINCT {namespace}, CAST({now} * 1000000 AS BIGINT) FROM repositories "
        "WHERE name LIKE '%/%' ON CONFLICT DO NOTHING"
    )
