"""webhooks, their deliveries, and positions of events in the feed"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0023'
down_revision = '0022'
branch_labels = None
depends_on = None


def where(condition: str) -> dict:
    return {'postgresql_where': sa.text(condition), 'sqlite_where': sa.text(condition)}


def upgrade() -> None:
    op.create_table('event_feed',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('position', sa.BigInteger(), server_default='0', nullable=False),
    sa.CheckConstraint('id = 1', name=op.f('ck_event_feed_single')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_event_feed'))
    )
    op.create_table('webhooks',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('kinds', sa.Text(), nullable=False),
    sa.Column('format', sa.Text(), nullable=False),
    sa.Column('ordered', sa.Boolean(), nullable=False),
    sa.Column('secret', sa.LargeBinary(), nullable=False),
    sa.Column('old_secret', sa.LargeBinary(), nullable=True),
    sa.Column('old_secret_until', TIME, nullable=True),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('disabled_at', TIME, nullable=True),
    sa.Column('disabled_reason', sa.Text(), nullable=True),
    sa.Column('next_at', TIME, nullable=True),
    sa.Column('lease', sa.Text(), nullable=True),
    sa.Column('failures', sa.Integer(), server_default='0', nullable=False),
    sa.Column('failing_since', TIME, nullable=True),
    sa.Column('hold_until', TIME, nullable=True),
    sa.Column('last_delivered_at', TIME, nullable=True),
    sa.CheckConstraint("repository_id IS NULL OR namespace_id IS NULL", name=op.f('ck_webhooks_on_one')),
    sa.CheckConstraint("format IN ('cloudevents', 'docker')", name=op.f('ck_webhooks_format')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_webhooks_repository_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_webhooks_namespace_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhooks'))
    )
    op.create_index(op.f('ix_webhooks_repository_id'), 'webhooks', ['repository_id'], unique=False)
    op.create_index(op.f('ix_webhooks_namespace_id'), 'webhooks', ['namespace_id'], unique=False)
    op.create_index(op.f('ix_webhooks_next_at'), 'webhooks', ['next_at'], unique=False, **where('next_at IS NOT NULL'))
    op.create_table('deliveries',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('webhook_id', BYTEWISE, nullable=False),
    sa.Column('position', sa.BigInteger(), nullable=True),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('repository', BYTEWISE, nullable=True),
    sa.Column('format', sa.Text(), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('due_at', TIME, nullable=True),
    sa.Column('attempts', sa.Integer(), server_default='0', nullable=False),
    sa.Column('log', sa.Text(), server_default='[]', nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('finished_at', TIME, nullable=True),
    sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", name=op.f('ck_deliveries_state')),
    sa.ForeignKeyConstraint(['webhook_id'], ['webhooks.id'], name=op.f('fk_deliveries_webhook_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_deliveries')),
    sa.UniqueConstraint('webhook_id', 'position', name=op.f('uq_deliveries_webhook_id_position'))
    )
    op.create_index(op.f('ix_deliveries_webhook_id_id'), 'deliveries', ['webhook_id', 'id'], unique=False)
    op.create_index(op.f('ix_deliveries_webhook_id_due_at'), 'deliveries', ['webhook_id', 'due_at'], unique=False, **where('due_at IS NOT NULL'))
    op.create_index(op.f('ix_deliveries_webhook_id_repository_position'), 'deliveries', ['webhook_id', 'repository', 'position'], unique=False, **where("state = 'pending'"))
    op.create_index(op.f('ix_deliveries_created_at'), 'deliveries', ['created_at'], unique=False, **where("state = 'pending'"))
    op.create_index(op.f('ix_deliveries_finished_at'), 'deliveries', ['finished_at'], unique=False, **where('finished_at IS NOT NULL'))
    op.add_column('events', sa.Column('position', sa.BigInteger(), nullable=True))
    op.create_index(op.f('ix_events_position'), 'events', ['position'], unique=True)
    op.create_index(op.f('ix_events_id'), 'events', ['id'], unique=False, **where('position IS NULL'))
    op.add_column('audit_keeping', sa.Column('removed_position', sa.BigInteger(), server_default='0', nullable=False))
    for name in ('source', 'revision'):
        op.add_column('manifests', sa.Column(name, sa.Text(), nullable=True))
    op.add_column('tokens', sa.Column('expiry_told_at', TIME, nullable=True))
