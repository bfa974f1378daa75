"""let repositories hold their tags until there is a verdict"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0020'
down_revision = '0019'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite changes no constraint of a table: it is made anew.
    before = sa.Table('repositories', sa.MetaData(),
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('visibility', sa.Text(), nullable=False),
    sa.Column('gate', sa.Text(), nullable=False),
    sa.Column('trial_on_push', sa.Boolean(), nullable=False),
    sa.Column('image_spec_allowed', sa.Boolean(), nullable=False),
    sa.Column('run_spec', sa.Text(), nullable=True),
    sa.Column('policy_version', sa.Integer(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('quota_bytes', sa.BigInteger(), nullable=True),
    sa.Column('worker_label', sa.Text(), nullable=True),
    sa.CheckConstraint("gate IN ('off', 'warn', 'enforce')", name=op.f('ck_repositories_gate')),
    sa.CheckConstraint("visibility IN ('public', 'internal', 'private')", name=op.f('ck_repositories_visibility')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_repositories')),
    sa.UniqueConstraint('name', name=op.f('uq_repositories_name')),
    sa.Index(op.f('ix_repositories_visibility_name'), 'visibility', 'name'),
    )
    with op.batch_alter_table('repositories', copy_from=before) as batch_op:
        batch_op.drop_constraint(op.f('ck_repositories_gate'), type_='check')
        batch_op.create_check_constraint(op.f('ck_repositories_gate'), "gate IN ('off', 'warn', 'enforce', 'hold')")
