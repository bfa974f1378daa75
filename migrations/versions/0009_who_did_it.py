"""say of each event who did it, from where, with what and by what right"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, kind in (
        ('target', BYTEWISE),
        ('actor_kind', sa.Text()),
        ('account_id', ID),
        ('token_id', BYTEWISE),
        ('client', sa.Text()),
        ('rule', sa.Text()),
    ):
        op.add_column('events', sa.Column(name, kind, nullable=True))
    op.add_column('events', sa.Column('decision', sa.Text(), server_default='allowed', nullable=False))
    for name, where in (
        (None, None),
        ('repository', None),
        ('actor', None),
        ('kind', None),
        ('target', 'target IS NOT NULL'),
        ('token_id', 'token_id IS NOT NULL'),
        ('decision', "decision = 'refused'"),
    ):
        columns = [*([name] if name else []), 'at', 'id']
        only = None if where is None else sa.text(where)
        op.create_index(
            op.f('_'.join(['ix_events', *columns])),
            'events',
            columns,
            unique=False,
            postgresql_where=only,
            sqlite_where=only,
        )
    # Of an event's repository the trail asks in the order of time.
    op.drop_index(op.f('ix_events_repository_id'), table_name='events')
