"""Characters that PostgreSQL cannot hold are counted, per page and per sync run."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE crm_sync.checkpoint ADD COLUMN replaced_characters bigint NOT NULL DEFAULT 0;
ALTER TABLE crm_sync.sync_run ADD COLUMN replaced_characters bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN crm_sync.sync_run.replaced_characters IS
    'NULs and halves of surrogate pairs that came from the CRM and are U+FFFD here.';
"""


def upgrade() -> None:
    """A column beside each count of rows."""
    op.execute(COLUMNS)
