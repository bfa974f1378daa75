"""blocks with an author and a place, waivers, pauses of the gate, and images that turn bad"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0024'
down_revision = '0023'
branch_labels = None
depends_on = None


def upgrade() -> None:
    _blocks()
    _relief()
    op.add_column('repositories', sa.Column('turned_bad', sa.Text(), nullable=True))
    op.add_column('repositories', sa.Column('turned_bad_days', sa.Integer(), nullable=True))
    op.add_column('manifests', sa.Column('turned_bad_at', TIME, nullable=True))


def _blocks() -> None:
    op.create_table('blocks',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint('repository_id IS NULL OR namespace_id IS NULL', name=op.f('ck_blocks_on_one')),
    sa.CheckConstraint("kind IN ('image', 'layer')", name=op.f('ck_blocks_kind')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_blocks_repository_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_blocks_namespace_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_blocks')),
    )
    op.create_index(op.f('ix_blocks_digest'), 'blocks', ['digest'], unique=False)
    for column in ('repository_id', 'namespace_id'):
        op.create_index(op.f(f'ix_blocks_{column}_id'), 'blocks', [column, 'id'], unique=False)
    # Who did it, and when, only the audit trail knows.
    op.execute(
        "INSERT INTO blocks (repository_id, kind, digest, reason, actor, created_at) "
        "SELECT repository_id, 'image', digest, blocked_reason, '', state_at FROM manifests "
        "WHERE blocked_reason IS NOT NULL"
    )


def _relief() -> None:
    op.add_column('namespaces', sa.Column('gate', sa.Text(), nullable=True))
    op.add_column('namespaces', sa.Column('waivers_by_two', sa.Boolean(), nullable=True))
    op.create_table('waivers',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=True),
    sa.Column('states', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('requested_by', sa.Text(), nullable=False),
    sa.Column('requested_account_id', ID, nullable=True),
    sa.Column('requested_at', TIME, nullable=False),
    sa.Column('expires_at', TIME, nullable=False),
    sa.Column('granted_by', sa.Text(), nullable=True),
    sa.Column('granted_at', TIME, nullable=True),
    sa.Column('ended_by', sa.Text(), nullable=True),
    sa.Column('ended_at', TIME, nullable=True),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_waivers_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_waivers')),
    )
    op.create_index(op.f('ix_waivers_repository_id_expires_at'), 'waivers', ['repository_id', 'expires_at'], unique=False)
    op.create_table('pauses',
    sa.Column('namespace_id', ID, nullable=False),
    sa.Column('until', TIME, nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_pauses_namespace_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('namespace_id', name=op.f('pk_pauses')),
    )
