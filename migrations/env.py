"""Alembic's entry: always on the connection that ``registry.db.migrate`` holds its lock with."""

from alembic import context

from registry.db.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
