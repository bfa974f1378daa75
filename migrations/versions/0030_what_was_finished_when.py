"""how far was looked for verdicts that are not attested, and what was finished when"""

import sqlalchemy as sa
from alembic import op


revision = '0030'
down_revision = '0029'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'attestation_marks',
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('looked_until', sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('part', 'trial')", name=op.f('ck_attestation_marks_kind')),
        sa.PrimaryKeyConstraint('kind', name=op.f('pk_attestation_marks')),
    )
    for table in ('parts', 'trials'):
        op.create_index(op.f(f'ix_{table}_finished_at_id'), table, ['finished_at', 'id'], unique=False)
