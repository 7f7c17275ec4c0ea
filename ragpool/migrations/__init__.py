"""Alembic migrations of the store; ``ragpool.db.Database`` runs them when it opens one."""
