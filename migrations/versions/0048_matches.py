"""matches: what advisories say of packages, and the images whose matches changed"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0048'
down_revision = '0047'
branch_labels = None
depends_on = None


def _of_an_image(table: str, *columns: sa.Column) -> None:
    op.create_table(table,
    sa.Column('manifest_id', ID, autoincrement=False, nullable=False),
    *columns,
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f(f'fk_{table}_manifest_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('manifest_id', name=op.f(f'pk_{table}'))
    )


def upgrade() -> None:
    op.create_table('matchings',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('generation', BYTEWISE, nullable=False),
    sa.Column('rules', sa.Integer(), nullable=False),
    sa.Column('put_at', TIME, nullable=False),
    sa.Column('as_of', TIME, nullable=False),
    sa.Column('sources', sa.Text(), nullable=False),
    sa.Column('ecosystems', sa.Text(), nullable=False),
    sa.Column('begun_at', TIME, nullable=False),
    sa.Column('ended_at', TIME, nullable=True),
    sa.Column('leased_until', TIME, nullable=False),
    sa.Column('matched', sa.Integer(), server_default='0', nullable=False),
    sa.Column('changed', sa.Integer(), server_default='0', nullable=False),
    sa.Column('images', sa.Integer(), server_default='0', nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_matchings'))
    )
    op.create_table('component_findings',
    sa.Column('component_id', ID, autoincrement=False, nullable=False),
    sa.Column('advisory', BYTEWISE, nullable=False),
    sa.Column('aliases', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('severity', sa.Text(), nullable=False),
    sa.Column('score', sa.Float(), nullable=True),
    sa.Column('summary', sa.Text(), nullable=False),
    sa.Column('fixed_version', sa.Text(), nullable=True),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('kev', sa.Boolean(), nullable=False),
    sa.Column('epss', sa.Float(), nullable=True),
    sa.Column('published_at', TIME, nullable=True),
    sa.Column('first_seen_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['component_id'], ['components.id'], name=op.f('fk_component_findings_component_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('component_id', 'advisory', name=op.f('pk_component_findings'))
    )
    columns = ['advisory', 'component_id']
    op.create_index(op.f('ix_component_findings_advisory_component_id'), 'component_findings', columns, unique=False)
    op.create_table('finding_changes',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('component_id', ID, nullable=False),
    sa.Column('advisory', BYTEWISE, nullable=False),
    sa.Column('change', sa.Text(), nullable=False),
    sa.Column('severity', sa.Text(), nullable=False),
    sa.Column('fixed_version', sa.Text(), nullable=True),
    sa.CheckConstraint("change IN ('new', 'gone', 'changed', 'minor')", name=op.f('ck_finding_changes_change')),
    sa.ForeignKeyConstraint(['component_id'], ['components.id'], name=op.f('fk_finding_changes_component_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_finding_changes'))
    )
    op.create_index(op.f('ix_finding_changes_component_id_id'), 'finding_changes', ['component_id', 'id'], unique=False)
    _of_an_image('changed_images', sa.Column('first_change', ID, nullable=False))
    _of_an_image('rejudgings', sa.Column('asked_at', TIME, nullable=False))
    op.add_column('components', sa.Column('matching', ID, server_default='0', nullable=False))
    op.create_index(op.f('ix_components_matching_id'), 'components', ['matching', 'id'], unique=False)
    op.add_column('scan_components', sa.Column('layer', sa.Integer(), nullable=True))
    op.add_column('scans', sa.Column('layers', sa.Text(), nullable=True))
