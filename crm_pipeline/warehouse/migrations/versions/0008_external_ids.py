"""External ids are compared as CRMs compare them: in any case."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The index of what waits for an external id follows."""
    op.execute("DROP INDEX crm_sync.outbox_by_external_id")
    op.execute(
        "CREATE INDEX outbox_by_external_id ON crm_sync.outbox (object_name, lower(external_id))"
        " WHERE state IN ('waiting', 'sending') AND external_id IS NOT NULL"
    )
