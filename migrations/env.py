"""Alembic's entry: the connection comes from the caller (`flask db …`), so no URL stands in any file.

SQLite rebuilds a table to alter it (batch mode); that needs foreign keys off, and a check of all of them after.
"""

from alembic import context

from scheduler import models  # noqa: F401 makes every table known
from scheduler.db import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
