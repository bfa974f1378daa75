"""histories of tags: with which token, how long, and what was deleted and can come back"""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()

revision = '0053'
down_revision = '0052'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('repositories', sa.Column('history_keep_days', sa.Integer(), nullable=True))
    op.add_column('repositories', sa.Column('history_keep_lines', sa.Integer(), nullable=True))
    op.add_column('manifests', sa.Column('labels', sa.Text(), nullable=True))
    op.add_column('tags', sa.Column('version_key', BYTEWISE, server_default=sa.text("''"), nullable=False))
    for second in ('version_key', 'updated_at'):
        op.create_index(op.f(f'ix_tags_repository_id_{second}_name'), 'tags', ['repository_id', second, 'name'], unique=False)
    unversioned = sa.text("version_key = ''")
    op.create_index('ix_tags_unversioned', 'tags', ['repository_id', 'name'], unique=False, postgresql_where=unversioned, sqlite_where=unversioned)
    op.create_table('deleted_manifests',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('media_type', sa.Text(), nullable=False),
    sa.Column('deleted_by', sa.Text(), nullable=False),
    sa.Column('deleted_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['digest'], ['manifest_contents.digest'], name=op.f('fk_deleted_manifests_digest'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_deleted_manifests_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_deleted_manifests')),
    sa.UniqueConstraint('repository_id', 'digest', name=op.f('uq_deleted_manifests_repository_id_digest'))
    )
    for column in ('digest', 'deleted_at'):
        op.create_index(op.f(f'ix_deleted_manifests_{column}'), 'deleted_manifests', [column], unique=False)
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
    sa.CheckConstraint("action IN ('push', 'delete', 'rollback', 'promotion')", name=op.f('ck_tag_history_action')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_tag_history_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tag_history')),
    sa.Index(op.f('ix_tag_history_repository_id_name_id'), 'repository_id', 'name', 'id'),
    )
    with op.batch_alter_table('tag_history', copy_from=before) as batch_op:
        batch_op.drop_constraint(op.f('ck_tag_history_action'), type_='check')
        batch_op.create_check_constraint(op.f('ck_tag_history_action'),
            "action IN ('push', 'delete', 'rollback', 'promotion', 'restore', 'move', 'copy', 'retention', 'import')",
        )
        batch_op.add_column(sa.Column('token_id', BYTEWISE, nullable=True))
        batch_op.add_column(sa.Column('over_at', TIME, nullable=True))
    # Since when each line is over: the time of the next one of its tag, or its own where it says that it was deleted.
    op.execute(
        "UPDATE tag_history SET over_at = CASE WHEN new_digest IS NULL THEN at ELSE"
        " (SELECT later.at FROM tag_history AS later WHERE later.repository_id = tag_history.repository_id"
        " AND later.name = tag_history.name AND later.id > tag_history.id ORDER BY later.id LIMIT 1) END"
    )
    over, deleted = sa.text('over_at IS NOT NULL'), sa.text('new_digest IS NULL')
    op.create_index(op.f('ix_tag_history_repository_id_over_at'), 'tag_history', ['repository_id', 'over_at'], unique=False, postgresql_where=over, sqlite_where=over)
    op.create_index('ix_tag_history_deleted', 'tag_history', ['repository_id', 'at', 'id'], unique=False, postgresql_where=deleted, sqlite_where=deleted)
