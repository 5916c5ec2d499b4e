"""Alembic's entry: runs inside the transaction that `migrate` opened."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema="crm_sync",
    transaction_per_migration=False,
)
context.run_migrations()
