"""A write-back can be taken back while it is on its way: then it never waits again."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE crm_sync.outbox
    ADD COLUMN is_withdrawn boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT outbox_withdrawn_never_waits
        CHECK (NOT is_withdrawn OR state IN ('sending', 'applied', 'superseded'));
CREATE INDEX outbox_consent_pending ON crm_sync.outbox (object_name, field)
    WHERE lane = 0 AND state IN ('waiting', 'held', 'sending', 'parked');
COMMENT ON COLUMN crm_sync.outbox.is_withdrawn IS
    'It is wanted no more: if it is on its way and does not get through, it ends.';
"""


def upgrade() -> None:
    """The mark, and an index of the few rows that may get one."""
    op.execute(COLUMN)
