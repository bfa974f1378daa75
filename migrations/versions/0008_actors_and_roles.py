"""robots, groups, namespaces, and roles on them"""

import sqlalchemy as sa
from alembic import op


BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()
KINDS = "kind IN ('user', 'worker'{})"
ROLES = "role IN ('reader', 'writer', 'maintainer', 'owner')"

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A version that does not know what limits an account or a token here would let in whom this one refuses.
    op.execute("UPDATE schema_floor SET oldest = '0008'")
    op.create_table('namespaces',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('visibility', sa.Text(), nullable=True),
    sa.Column('create_on_push', sa.Boolean(), nullable=True),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint("visibility IN ('public', 'internal', 'private')", name=op.f('ck_namespaces_visibility')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_namespaces')),
    sa.UniqueConstraint('name', name=op.f('uq_namespaces_name')),
    sqlite_autoincrement=True
    )
    _accounts()
    op.create_table('groups',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_groups')),
    sa.UniqueConstraint('name', name=op.f('uq_groups_name')),
    sqlite_autoincrement=True
    )
    op.create_table('group_members',
    sa.Column('group_id', ID, nullable=False),
    sa.Column('account_id', ID, nullable=False),
    sa.Column('source', BYTEWISE, nullable=False),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_group_members_group_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_group_members_account_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('group_id', 'account_id', 'source', name=op.f('pk_group_members'))
    )
    with op.batch_alter_table('group_members', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_group_members_account_id'), ['account_id'], unique=False)
    op.create_table('grants',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('namespace_id', ID, nullable=True),
    sa.Column('repository_id', ID, nullable=True),
    sa.Column('account_id', ID, nullable=True),
    sa.Column('group_id', ID, nullable=True),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint(ROLES, name=op.f('ck_grants_role')),
    sa.CheckConstraint('(namespace_id IS NULL) <> (repository_id IS NULL)', name=op.f('ck_grants_on_one')),
    sa.CheckConstraint('(account_id IS NULL) <> (group_id IS NULL)', name=op.f('ck_grants_to_one')),
    sa.ForeignKeyConstraint(['namespace_id'], ['namespaces.id'], name=op.f('fk_grants_namespace_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_grants_repository_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_grants_account_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['group_id'], ['groups.id'], name=op.f('fk_grants_group_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_grants')),
    sa.UniqueConstraint('namespace_id', 'account_id', name='uq_grants_namespace_account'),
    sa.UniqueConstraint('namespace_id', 'group_id', name='uq_grants_namespace_group'),
    sa.UniqueConstraint('repository_id', 'account_id', name='uq_grants_repository_account'),
    sa.UniqueConstraint('repository_id', 'group_id', name='uq_grants_repository_group')
    )
    with op.batch_alter_table('grants', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_grants_account_id'), ['account_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_grants_group_id'), ['group_id'], unique=False)
    op.create_table('tombstones',
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('deleted_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_tombstones'))
    )


def _accounts() -> None:
    # SQLite changes no constraint of a table: it is made anew. A number that was an account's is then never
    # given to another one.
    before = sa.Table('accounts', sa.MetaData(),
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('is_admin', sa.Boolean(), nullable=False),
    sa.Column('password_hash', sa.Text(), nullable=True),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('disabled_at', TIME, nullable=True),
    sa.CheckConstraint(KINDS.format(""), name=op.f('ck_accounts_kind')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_accounts')),
    sa.UniqueConstraint('name', name=op.f('uq_accounts_name')),
    )
    with op.batch_alter_table('accounts', copy_from=before, table_kwargs={'sqlite_autoincrement': True}) as batch_op:
        batch_op.drop_constraint(op.f('ck_accounts_kind'), type_='check')
        batch_op.create_check_constraint(op.f('ck_accounts_kind'), KINDS.format(", 'robot'"))
        batch_op.add_column(sa.Column('is_auditor', sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column('namespace_id', ID, nullable=True))
        batch_op.add_column(sa.Column('credentials_after', TIME, nullable=True))
        batch_op.create_foreign_key(op.f('fk_accounts_namespace_id'), 'namespaces', ['namespace_id'], ['id'], ondelete='CASCADE')
        batch_op.create_index(op.f('ix_accounts_namespace_id'), ['namespace_id'], unique=False)
        batch_op.create_index(op.f('ix_accounts_kind_name'), ['kind', 'name'], unique=False)
