"""quotas of namespaces, and of tags and uploads"""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = '0060'
down_revision = '0059'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('quotas',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('resource', sa.Text(), nullable=False),
    sa.Column('most', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('(repository_id IS NULL) <> (namespace_id IS NULL)', name=op.f('ck_quotas_on_one')),
    sa.CheckConstraint("resource IN ('bytes', 'repositories', 'tags', 'uploads')", name=op.f('ck_quotas_resource')),
    sa.CheckConstraint("namespace_id IS NOT NULL OR resource IN ('tags', 'uploads')", name=op.f('ck_quotas_has')),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_quotas_namespace_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_quotas_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_quotas')),
    sa.UniqueConstraint('namespace_id', 'resource', name=op.f('uq_quotas_namespace_id_resource')),
    sa.UniqueConstraint('repository_id', 'resource', name=op.f('uq_quotas_repository_id_resource'))
    )
    limited = sa.text('quota_bytes IS NOT NULL')
    op.create_index('ix_repositories_quota', 'repositories', ['name'], unique=False, postgresql_where=limited, sqlite_where=limited)
