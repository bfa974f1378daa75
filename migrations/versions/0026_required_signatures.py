"""signatures that are required, and those that were pushed"""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

revision = '0026'
down_revision = '0025'
branch_labels = None
depends_on = None


def _of(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f'{to}.id'], name=op.f(f'fk_{table}_{column}'), ondelete='CASCADE')


def upgrade() -> None:
    op.create_table(
        'signature_rules',
        sa.Column('id', ID, autoincrement=True, nullable=False),
        sa.Column('repository_id', ID, nullable=True),
        sa.Column('namespace_id', ID, nullable=True),
        sa.Column('name', sa.Text(), nullable=False),
        sa.Column('public_pem', sa.Text(), nullable=True),
        sa.Column('issuer', sa.Text(), nullable=True),
        sa.Column('subject', sa.Text(), nullable=True),
        sa.Column('created_by', sa.Text(), nullable=False),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.CheckConstraint('(repository_id IS NULL) <> (namespace_id IS NULL)', name=op.f('ck_signature_rules_on_one')),
        sa.CheckConstraint('(public_pem IS NULL) <> (issuer IS NULL)', name=op.f('ck_signature_rules_by_one')),
        _of('signature_rules', 'repository_id', 'repositories'),
        _of('signature_rules', 'namespace_id', 'namespaces'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_signature_rules')),
    )
    for column in ('repository_id', 'namespace_id'):
        op.create_index(op.f(f'ix_signature_rules_{column}'), 'signature_rules', [column], unique=False)
    op.create_table(
        'signatures',
        sa.Column('manifest_id', ID, autoincrement=False, nullable=False),
        sa.Column('repository_id', ID, nullable=False),
        sa.Column('subject_digest', BYTEWISE, nullable=False),
        sa.Column('payload', sa.LargeBinary(), nullable=False),
        sa.Column('signature', sa.LargeBinary(), nullable=False),
        sa.Column('issuer', sa.Text(), nullable=True),
        sa.Column('subject', sa.Text(), nullable=True),
        _of('signatures', 'manifest_id', 'manifests'),
        _of('signatures', 'repository_id', 'repositories'),
        sa.PrimaryKeyConstraint('manifest_id', name=op.f('pk_signatures')),
    )
    op.create_index(op.f('ix_signatures_repository_id_subject_digest'), 'signatures', ['repository_id', 'subject_digest'], unique=False)
    op.create_table(
        'signature_matches',
        sa.Column('rule_id', ID, autoincrement=False, nullable=False),
        sa.Column('manifest_id', ID, autoincrement=False, nullable=False),
        sa.Column('repository_id', ID, nullable=False),
        sa.Column('subject_digest', BYTEWISE, nullable=False),
        _of('signature_matches', 'rule_id', 'signature_rules'),
        _of('signature_matches', 'manifest_id', 'manifests'),
        _of('signature_matches', 'repository_id', 'repositories'),
        sa.PrimaryKeyConstraint('rule_id', 'manifest_id', name=op.f('pk_signature_matches')),
    )
    op.create_index(op.f('ix_signature_matches_manifest_id'), 'signature_matches', ['manifest_id'], unique=False)
    op.create_index(op.f('ix_signature_matches_repository_id_subject_digest_rule_id'), 'signature_matches', ['repository_id', 'subject_digest', 'rule_id'], unique=False)
