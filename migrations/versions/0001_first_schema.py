"""first schema"""

import sqlalchemy as sa
from alembic import op


# Frozen copies of registry.db.types: a migration never changes when the models do.
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('accounts',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('is_admin', sa.Boolean(), nullable=False),
    sa.Column('password_hash', sa.Text(), nullable=True),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('disabled_at', TIME, nullable=True),
    sa.CheckConstraint("kind IN ('user', 'worker')", name=op.f('ck_accounts_kind')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_accounts')),
    sa.UniqueConstraint('name', name=op.f('uq_accounts_name'))
    )
    op.create_table('blobs',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('locator', BYTEWISE, nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_blobs')),
    sa.UniqueConstraint('digest', name=op.f('uq_blobs_digest')),
    sa.UniqueConstraint('locator', name=op.f('uq_blobs_locator'))
    )
    op.create_table('epochs',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('content', sa.BigInteger(), nullable=False),
    sa.Column('access', sa.BigInteger(), nullable=False),
    sa.Column('gate', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('id = 1', name=op.f('ck_epochs_single')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_epochs'))
    )
    op.create_table('events',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('repository', BYTEWISE, nullable=True),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('data', sa.Text(), nullable=False),
    sa.Column('at', TIME, nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_events'))
    )
    with op.batch_alter_table('events', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_events_repository_id'), ['repository', 'id'], unique=False)

    op.create_table('keys',
    sa.Column('kid', BYTEWISE, nullable=False),
    sa.Column('ring', sa.Text(), nullable=False),
    sa.Column('algorithm', sa.Text(), nullable=False),
    sa.Column('public_pem', sa.Text(), nullable=False),
    sa.Column('private_wrapped', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('retired_at', TIME, nullable=True),
    sa.CheckConstraint("ring IN ('token', 'attestation')", name=op.f('ck_keys_ring')),
    sa.PrimaryKeyConstraint('kid', name=op.f('pk_keys'))
    )
    with op.batch_alter_table('keys', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_keys_ring_created_at'), ['ring', 'created_at'], unique=False)

    op.create_table('manifest_contents',
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('raw', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_manifest_contents'))
    )
    op.create_table('repositories',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('visibility', sa.Text(), nullable=False),
    sa.Column('gate', sa.Text(), nullable=False),
    sa.Column('trial_on_push', sa.Boolean(), nullable=False),
    sa.Column('image_spec_allowed', sa.Boolean(), nullable=False),
    sa.Column('run_spec', sa.Text(), nullable=True),
    sa.Column('policy_version', sa.Integer(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.CheckConstraint("gate IN ('off', 'warn', 'enforce')", name=op.f('ck_repositories_gate')),
    sa.CheckConstraint("visibility IN ('public', 'internal', 'private')", name=op.f('ck_repositories_visibility')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_repositories')),
    sa.UniqueConstraint('name', name=op.f('uq_repositories_name'))
    )
    op.create_table('blob_links',
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('blob_id', ID, nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['blob_id'], ['blobs.id'], name=op.f('fk_blob_links_blob_id'), ondelete='RESTRICT'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_blob_links_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('repository_id', 'blob_id', name=op.f('pk_blob_links'))
    )
    with op.batch_alter_table('blob_links', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_blob_links_blob_id'), ['blob_id'], unique=False)

    op.create_table('manifests',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('media_type', sa.Text(), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('artifact_type', sa.Text(), nullable=True),
    sa.Column('annotations', sa.Text(), nullable=False),
    sa.Column('subject_digest', BYTEWISE, nullable=True),
    sa.Column('runnable', sa.Boolean(), nullable=False),
    sa.Column('platform', sa.Text(), nullable=True),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('state_reason', sa.Text(), nullable=False),
    sa.Column('state_at', TIME, nullable=False),
    sa.Column('grandfathered_until', TIME, nullable=True),
    sa.Column('blocked_reason', sa.Text(), nullable=True),
    sa.Column('pushed_by', sa.Text(), nullable=False),
    sa.Column('pushed_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['digest'], ['manifest_contents.digest'], name=op.f('fk_manifests_digest')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_manifests_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_manifests')),
    sa.UniqueConstraint('repository_id', 'digest', name=op.f('uq_manifests_repository_id_digest'))
    )
    with op.batch_alter_table('manifests', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_manifests_digest'), ['digest'], unique=False)
        batch_op.create_index(batch_op.f('ix_manifests_repository_id_subject_digest'), ['repository_id', 'subject_digest'], unique=False)

    op.create_table('parts',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('platform', sa.Text(), nullable=False),
    sa.Column('spec_digest', BYTEWISE, nullable=False),
    sa.Column('policy_version', sa.Integer(), nullable=False),
    sa.Column('run_spec', sa.Text(), nullable=True),
    sa.Column('image_spec_allowed', sa.Boolean(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('run_after', TIME, nullable=False),
    sa.Column('lease', BYTEWISE, nullable=True),
    sa.Column('lease_account_id', ID, nullable=True),
    sa.Column('lease_expires_at', TIME, nullable=True),
    sa.Column('verdict', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('worker', sa.Text(), nullable=True),
    sa.Column('record', sa.Text(), nullable=True),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('finished_at', TIME, nullable=True),
    sa.CheckConstraint("state IN ('queued', 'leased', 'done')", name=op.f('ck_parts_state')),
    sa.CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'error', 'unsupported')", name=op.f('ck_parts_verdict')),
    sa.ForeignKeyConstraint(['lease_account_id'], ['accounts.id'], name=op.f('fk_parts_lease_account_id'), ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_parts_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_parts')),
    sa.UniqueConstraint('lease', name=op.f('uq_parts_lease')),
    sa.UniqueConstraint('repository_id', 'digest', 'platform', 'spec_digest', 'policy_version', name=op.f('uq_parts_repository_id_digest_platform_spec_digest_policy_version'))
    )
    with op.batch_alter_table('parts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_parts_lease_expires_at'), ['lease_expires_at'], unique=False)
        batch_op.create_index(batch_op.f('ix_parts_state_run_after_id'), ['state', 'run_after', 'id'], unique=False)

    op.create_table('tag_history',
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
    sa.CheckConstraint("action IN ('push', 'delete', 'rollback')", name=op.f('ck_tag_history_action')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_tag_history_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tag_history'))
    )
    with op.batch_alter_table('tag_history', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_tag_history_repository_id_name_id'), ['repository_id', 'name', 'id'], unique=False)

    op.create_table('tokens',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('account_id', ID, nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('secret_hash', BYTEWISE, nullable=False),
    sa.Column('scopes', sa.Text(), nullable=True),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('expires_at', TIME, nullable=True),
    sa.Column('revoked_at', TIME, nullable=True),
    sa.Column('last_used_at', TIME, nullable=True),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_tokens_account_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tokens')),
    sa.UniqueConstraint('secret_hash', name=op.f('uq_tokens_secret_hash'))
    )
    with op.batch_alter_table('tokens', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_tokens_account_id'), ['account_id'], unique=False)

    op.create_table('trials',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('spec_digest', BYTEWISE, nullable=False),
    sa.Column('policy_version', sa.Integer(), nullable=False),
    sa.Column('cause', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('verdict', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('finished_at', TIME, nullable=True),
    sa.CheckConstraint("cause IN ('push', 'request')", name=op.f('ck_trials_cause')),
    sa.CheckConstraint("state IN ('queued', 'running', 'done')", name=op.f('ck_trials_state')),
    sa.CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'error')", name=op.f('ck_trials_verdict')),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_trials_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_trials'))
    )
    with op.batch_alter_table('trials', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_trials_created_at'), ['created_at'], unique=False)
        batch_op.create_index(batch_op.f('ix_trials_repository_id_digest'), ['repository_id', 'digest'], unique=False)

    op.create_table('upload_sessions',
    sa.Column('id', BYTEWISE, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('account_id', ID, nullable=True),
    sa.Column('locator', BYTEWISE, nullable=False),
    sa.Column('digest_algorithm', sa.Text(), nullable=False),
    sa.Column('created_at', TIME, nullable=False),
    sa.Column('expires_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_upload_sessions_account_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_upload_sessions_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_upload_sessions'))
    )
    with op.batch_alter_table('upload_sessions', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_upload_sessions_expires_at'), ['expires_at'], unique=False)
        batch_op.create_index(batch_op.f('ix_upload_sessions_repository_id'), ['repository_id'], unique=False)

    op.create_table('workers',
    sa.Column('account_id', ID, nullable=False),
    sa.Column('drain_at', TIME, nullable=True),
    sa.Column('last_seen_at', TIME, nullable=True),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('platforms', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['account_id'], ['accounts.id'], name=op.f('fk_workers_account_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('account_id', name=op.f('pk_workers'))
    )
    op.create_table('edges',
    sa.Column('manifest_id', ID, nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('digest', BYTEWISE, nullable=False),
    sa.Column('media_type', sa.Text(), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.CheckConstraint("kind IN ('config', 'layer', 'child')", name=op.f('ck_edges_kind')),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_edges_manifest_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('manifest_id', 'position', name=op.f('pk_edges'))
    )
    with op.batch_alter_table('edges', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_edges_digest'), ['digest'], unique=False)

    op.create_table('runs',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('part_id', BYTEWISE, nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('command', sa.Text(), nullable=False),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('signal', sa.Integer(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('oom_killed', sa.Boolean(), nullable=False),
    sa.Column('seconds', sa.Float(), nullable=False),
    sa.Column('cpu_seconds', sa.Float(), nullable=True),
    sa.Column('memory_peak_bytes', sa.BigInteger(), nullable=True),
    sa.Column('log', sa.Text(), nullable=False),
    sa.Column('log_truncated', sa.Boolean(), nullable=False),
    sa.Column('observations', sa.Text(), nullable=False),
    sa.Column('finished_at', TIME, nullable=False),
    sa.ForeignKeyConstraint(['part_id'], ['parts.id'], name=op.f('fk_runs_part_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_runs'))
    )
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_runs_part_id'), ['part_id'], unique=False)

    op.create_table('tags',
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('name', BYTEWISE, nullable=False),
    sa.Column('manifest_id', ID, nullable=False),
    sa.Column('updated_at', TIME, nullable=False),
    sa.Column('updated_by', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['manifest_id'], ['manifests.id'], name=op.f('fk_tags_manifest_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_tags_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('repository_id', 'name', name=op.f('pk_tags'))
    )
    with op.batch_alter_table('tags', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_tags_manifest_id'), ['manifest_id'], unique=False)

    op.create_table('trial_parts',
    sa.Column('trial_id', BYTEWISE, nullable=False),
    sa.Column('part_id', BYTEWISE, nullable=False),
    sa.ForeignKeyConstraint(['part_id'], ['parts.id'], name=op.f('fk_trial_parts_part_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['trial_id'], ['trials.id'], name=op.f('fk_trial_parts_trial_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('trial_id', 'part_id', name=op.f('pk_trial_parts'))
    )
    with op.batch_alter_table('trial_parts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_trial_parts_part_id'), ['part_id'], unique=False)

    op.execute("INSERT INTO epochs (id, content, access, gate) VALUES (1, 0, 0, 0)")
