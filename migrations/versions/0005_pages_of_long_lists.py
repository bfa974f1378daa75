"""read pages of referrers and of the catalog by ranges of an index"""

import sqlalchemy as sa
from alembic import op


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    has_subject = sa.text('subject_digest IS NOT NULL')
    for columns in (['subject_digest', 'id'], ['subject_digest', 'artifact_type', 'id']):
        op.create_index(
            op.f('_'.join(['ix_manifests_repository_id', *columns])),
            'manifests',
            ['repository_id', *columns],
            unique=False,
            postgresql_where=has_subject,
            sqlite_where=has_subject,
        )
    op.drop_index(op.f('ix_manifests_repository_id_subject_digest'), table_name='manifests')
    op.create_index(op.f('ix_repositories_visibility_name'), 'repositories', ['visibility', 'name'], unique=False)
