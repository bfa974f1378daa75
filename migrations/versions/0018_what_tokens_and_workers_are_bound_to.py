"""limit tokens and workers: networks, who made which token, last use; namespaces, labels and slots"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A version that does not know of networks and bindings would let in whom this one refuses.
    op.execute("UPDATE schema_floor SET oldest = '0018'")
    for name, kind in (
        ('networks', sa.Text()),
        ('made_by', BYTEWISE),
        ('replaces', BYTEWISE),
        ('last_used_address', sa.Text()),
        ('last_used_client', sa.Text()),
    ):
        op.add_column('tokens', sa.Column(name, kind, nullable=True))
    op.create_index(op.f('ix_tokens_account_id_id'), 'tokens', ['account_id', 'id'], unique=False)
    op.drop_index(op.f('ix_tokens_account_id'), table_name='tokens')
    for columns, unique in ((['made_by', 'id'], False), (['replaces'], True)):
        op.create_index(
            op.f('_'.join(['ix_tokens', *columns])),
            'tokens',
            columns,
            unique=unique,
            postgresql_where=sa.text(f'{columns[0]} IS NOT NULL'),
            sqlite_where=sa.text(f'{columns[0]} IS NOT NULL'),
        )
    op.create_index(op.f('ix_tokens_revoked_at_id'), 'tokens', ['revoked_at', 'id'], unique=False)
    for columns in (['expires_at', 'id'], ['last_used_at', 'created_at', 'id']):
        op.create_index(
            op.f('_'.join(['ix_tokens', *columns])),
            'tokens',
            columns,
            unique=False,
            postgresql_where=sa.text('revoked_at IS NULL'),
            sqlite_where=sa.text('revoked_at IS NULL'),
        )
    op.add_column('workers', sa.Column('namespaces', sa.Text(), nullable=True))
    op.add_column('workers', sa.Column('labels', sa.Text(), server_default='[]', nullable=False))
    op.add_column('workers', sa.Column('networks', sa.Text(), nullable=True))
    op.add_column('workers', sa.Column('slots', sa.Integer(), nullable=True))
    op.add_column('repositories', sa.Column('worker_label', sa.Text(), nullable=True))
    op.create_index(op.f('ix_parts_lease_account_id'), 'parts', ['lease_account_id'], unique=False)
