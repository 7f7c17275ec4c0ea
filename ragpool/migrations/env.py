"""Alembic's entry: runs on the connection that ragpool.db hands over, inside its transaction."""

from alembic import context

from ragpool.db import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False
)
context.run_migrations()
