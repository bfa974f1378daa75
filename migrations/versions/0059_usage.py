"""how much each repository holds, kept by triggers

Whoever makes one of these tables anew (``batch_alter_table`` on SQLite) drops its triggers with it, and has
to make them again; tests/integration/db/test_usage.py tells."""

import sqlalchemy as sa
from alembic import op


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = '0059'
down_revision = '0058'
branch_labels = None
depends_on = None

# Whose rows count, for which column, and how much each of them.
COUNTED = (
    ('blob_links', 'bytes', '(SELECT blobs.size FROM blobs WHERE blobs.id = {row}.blob_id)'),
    ('manifests', 'bytes', '{row}.size'),
    ('tags', 'tags', '1'),
    ('upload_sessions', 'uploads', '1'),
)


def upgrade() -> None:
    op.create_table('repository_usage',
    sa.Column('repository_id', ID, autoincrement=False, nullable=False),
    sa.Column('bytes', sa.BigInteger(), nullable=False),
    sa.Column('tags', sa.BigInteger(), nullable=False),
    sa.Column('uploads', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['repository_id'], ['repositories.id'], name=op.f('fk_repository_usage_repository_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('repository_id', name=op.f('pk_repository_usage'))
    )
    op.create_table('usage_changes',
    sa.Column('id', ID, autoincrement=True, nullable=False),
    sa.Column('repository_id', ID, nullable=False),
    sa.Column('bytes', sa.BigInteger(), nullable=False),
    sa.Column('tags', sa.BigInteger(), nullable=False),
    sa.Column('uploads', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_usage_changes'))
    )
    op.create_index(op.f('ix_usage_changes_repository_id'), 'usage_changes', ['repository_id'], unique=False)
    # The triggers first: on PostgreSQL they lock their tables, so that what is counted then stands still.
    if op.get_bind().dialect.name == 'sqlite':
        _sqlite_triggers()
    else:
        _postgresql_triggers()
    op.execute("""
        INSERT INTO repository_usage (repository_id, bytes, tags, uploads)
        SELECT repositories.id,
            coalesce((SELECT sum(blobs.size) FROM blob_links JOIN blobs ON blobs.id = blob_links.blob_id
                      WHERE blob_links.repository_id = repositories.id), 0)
            + coalesce((SELECT sum(manifests.size) FROM manifests
                        WHERE manifests.repository_id = repositories.id), 0),
            (SELECT count(*) FROM tags WHERE tags.repository_id = repositories.id),
            (SELECT count(*) FROM upload_sessions WHERE upload_sessions.repository_id = repositories.id)
        FROM repositories
    """)


def _sqlite_triggers() -> None:
    op.execute("""
        CREATE TRIGGER usage_begun AFTER INSERT ON repositories BEGIN
            INSERT INTO repository_usage (repository_id, bytes, tags, uploads) VALUES (NEW.id, 0, 0, 0);
        END
    """)
    for table, column, amount in COUNTED:
        for event, row, sign in (('INSERT', 'NEW', '+'), ('DELETE', 'OLD', '-')):
            op.execute(f"""
                CREATE TRIGGER usage_{table}_{event.lower()} AFTER {event} ON {table} BEGIN
                    UPDATE repository_usage SET {column} = {column} {sign} {amount.format(row=row)}
                    WHERE repository_id = {row}.repository_id;
                END
            """)


def _postgresql_triggers() -> None:
    """Once for each statement, however many rows it has. Whoever gets the row of a repository adds to it, with
    what others have left beside it meanwhile; whoever does not get it leaves his change there. So nobody waits
    here, and no lock has to be taken in an order. In a cascade the repository is gone, and nothing counts."""
    op.execute("""
        CREATE FUNCTION usage_begin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO repository_usage (repository_id, bytes, tags, uploads) SELECT id, 0, 0, 0 FROM changed;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER usage_begun AFTER INSERT ON repositories
        REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION usage_begin()
    """)
    op.execute("""
        CREATE FUNCTION usage_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM usage_changes WHERE repository_id IN (SELECT id FROM changed);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER usage_ended AFTER DELETE ON repositories
        REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION usage_end()
    """)
    op.execute("""
        CREATE FUNCTION usage_count(which bigint, more_bytes bigint, more_tags bigint, more_uploads bigint)
        RETURNS void LANGUAGE plpgsql AS $$ BEGIN
            PERFORM 1 FROM repository_usage WHERE repository_id = which FOR NO KEY UPDATE SKIP LOCKED;
            IF FOUND THEN
                WITH left_here AS (
                    DELETE FROM usage_changes WHERE repository_id = which RETURNING bytes, tags, uploads
                ), sums AS (
                    SELECT coalesce(sum(bytes), 0) AS bytes, coalesce(sum(tags), 0) AS tags,
                        coalesce(sum(uploads), 0) AS uploads FROM left_here
                )
                UPDATE repository_usage AS usage SET bytes = usage.bytes + more_bytes + sums.bytes,
                    tags = usage.tags + more_tags + sums.tags,
                    uploads = usage.uploads + more_uploads + sums.uploads
                FROM sums WHERE usage.repository_id = which;
            ELSIF EXISTS (SELECT 1 FROM repositories WHERE id = which) THEN
                INSERT INTO usage_changes (repository_id, bytes, tags, uploads)
                VALUES (which, more_bytes, more_tags, more_uploads);
            END IF;
        END $$
    """)
    for table, column, amount in COUNTED:
        more = ', '.join('sums.amount' if name == column else '0' for name in ('bytes', 'tags', 'uploads'))
        for event, moment, sign in (('INSERT', 'NEW', ''), ('DELETE', 'OLD', '-')):
            op.execute(f"""
                CREATE FUNCTION usage_{table}_{event.lower()}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM usage_count(sums.id, {more}) FROM (
                        SELECT repository_id AS id, CAST({sign}sum({amount.format(row='changed')}) AS bigint) AS amount
                        FROM changed GROUP BY repository_id
                    ) AS sums;
                    RETURN NULL;
                END $$
            """)
            op.execute(f"""
                CREATE TRIGGER usage_{table}_{event.lower()} AFTER {event} ON {table}
                REFERENCING {moment} TABLE AS changed
                FOR EACH STATEMENT EXECUTE FUNCTION usage_{table}_{event.lower()}()
            """)
