"""usage that follows a size which is written anew, as fsck does it

As those of the migration before: whoever makes one of these tables anew has to make its trigger again."""

from alembic import op


revision = '0063'
down_revision = '0062'
branch_labels = None
depends_on = None

MORE = 'NEW.size - OLD.size'


def upgrade() -> None:
    if op.get_bind().dialect.name == 'sqlite':
        for table, which in (
            ('manifests', 'repository_id = NEW.repository_id'),
            ('blobs', 'repository_id IN (SELECT repository_id FROM blob_links WHERE blob_id = NEW.id)'),
        ):
            op.execute(f"""
                CREATE TRIGGER usage_{table}_update AFTER UPDATE OF size ON {table} BEGIN
                    UPDATE repository_usage SET bytes = bytes + {MORE} WHERE {which};
                END
            """)
        return
    for table, which in (
        ('manifests', f'usage_count(NEW.repository_id, {MORE}, 0, 0)'),
        ('blobs', f'usage_count(repository_id, {MORE}, 0, 0) FROM blob_links WHERE blob_id = NEW.id'),
    ):
        op.execute(f"""
            CREATE FUNCTION usage_{table}_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM {which};
                RETURN NULL;
            END $$
        """)
        op.execute(f"""
            CREATE TRIGGER usage_{table}_update AFTER UPDATE OF size ON {table} FOR EACH ROW
            WHEN (NEW.size IS DISTINCT FROM OLD.size) EXECUTE FUNCTION usage_{table}_update()
        """)
