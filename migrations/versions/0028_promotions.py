"""promotions, and what they leave in the history of tags"""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()

revision = '0028'
down_revision = '0027'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'promotions',
        sa.Column('id', ID, autoincrement=True, nullable=False),
        sa.Column('repository_id', ID, nullable=False),
        sa.Column('tag', BYTEWISE, nullable=False),
        sa.Column('digest', BYTEWISE, nullable=False),
        sa.Column('old_digest', BYTEWISE, nullable=True),
        sa.Column('source', BYTEWISE, nullable=False),
        sa.Column('source_id', ID, nullable=True),
        sa.Column('source_tag', BYTEWISE, nullable=True),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('requested_by', sa.Text(), nullable=False),
        sa.Column('requested_account_id', ID, nullable=True),
        sa.Column('requested_at', TIME, nullable=False),
        sa.Column('expires_at', TIME, nullable=False),
        sa.Column('promoted_by', sa.Text(), nullable=True),
        sa.Column('promoted_at', TIME, nullable=True),
        sa.Column('move_id', sa.BigInteger(), nullable=True),
        sa.Column('ended_by', sa.Text(), nullable=True),
        sa.Column('ended_at', TIME, nullable=True),
        sa.Column('undone_by', sa.Text(), nullable=True),
        sa.Column('undone_at', TIME, nullable=True),
        sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_promotions_repository_id'), ondelete='CASCADE'),
        sa.ForeignKeyConstraint(['source_id'], ['repositories.id'], name=op.f('fk_promotions_source_id'), ondelete='SET NULL'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_promotions')),
    )
    op.create_index(op.f('ix_promotions_source_id'), 'promotions', ['source_id'], unique=False)
    op.create_index(op.f('ix_promotions_repository_id_id'), 'promotions', ['repository_id', 'id'], unique=False)
    op.add_column('namespaces', sa.Column('promotions_by_two', sa.Boolean(), nullable=True))
    # SQLite changes no constraint of a table: it is made anew.
    before = sa.Table('tag_history', sa.MetaData(),
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('action', sa.Text(), nullable=False),
    sa.Column('old_digest', BYTEWISE, nullable=True),
    sa.Column('new_digest', BYTEWISE, nullable=True),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('at', TIME, nullable=False),
    sa.Column('workload', sa.Text(), nullable=True),
    sa.CheckConstraint("action IN ('push', 'delete', 'rollback')", name=op.f('ck_tag_history_action')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_tag_history_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tag_history')),
    sa.Index(op.f('ix_tag_history_repository_id_name_id'), 'repository_id', 'name', 'id'),
    )
    with op.batch_alter_table('tag_history', copy_from=before) as batch_op:
        batch_op.drop_constraint(op.f('ck_tag_history_action'), type_='check')
        batch_op.create_check_constraint(op.f('ck_tag_history_action'), "action IN ('push', 'delete', 'rollback', 'promotion')")
