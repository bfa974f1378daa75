"""statements of scans: SBOMs and what advisories say, signed and attached"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0051'
down_revision = '0050'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('attestations', sa.Column('left_out', sa.Text(), nullable=True))
    # SQLite changes no constraint of a table: it is made anew.
    before = sa.Table('attestations', sa.MetaData(),
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('spec_digest', BYTEWISE, nullable=False),
    sa.Column('found', sa.Text(), nullable=False),
    sa.Column('made_at', TIME, nullable=False),
    sa.Column('run_after', TIME, nullable=False),
    sa.Column('signed_at', TIME, nullable=True),
    sa.Column('kid', BYTEWISE, nullable=True),
    sa.Column('left_out', sa.Text(), nullable=True),
    sa.CheckConstraint("kind IN ('result', 'summary')", name=op.f('ck_attestations_kind')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_attestations_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_attestations')),
    sa.UniqueConstraint('repository_id', 'digest', 'kind', 'spec_digest', name=op.f('uq_attestations_repository_id_digest_kind_spec_digest')),
    sa.Index(op.f('ix_attestations_signed_at_id'), 'signed_at', 'id'),
    sa.Index(op.f('ix_attestations_kid'), 'kid'),
    )
    with op.batch_alter_table('attestations', copy_from=before) as batch_op:
        batch_op.drop_constraint(op.f('ck_attestations_kind'), type_='check')
        batch_op.create_check_constraint(op.f('ck_attestations_kind'), "kind IN ('result', 'summary', 'cyclonedx', 'spdx', 'matches')")
