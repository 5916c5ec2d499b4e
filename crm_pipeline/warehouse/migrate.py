"""Brings the control schema to the version that this code was written for.

Belongs here: running migrations and checking versions. Does not belong here: the migrations
(migrations/versions/) and the typed tables of CRM objects, which follow the CRM's describe.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from crm_pipeline.errors import ConfigurationError
from crm_pipeline.warehouse.connection import CONTROL_SCHEMA

_LOCK_KEY = 7_264_611_918


def sqlalchemy_url(url: str) -> str:
    """The same address with the driver spelt out: a bare scheme means another driver elsewhere."""
    _, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}"


def migrate(url: str) -> None:
    """Create or upgrade the control schema; does nothing when it is current.

    The whole upgrade is one transaction, and two processes that start at once take turns.

    Raises:
        ConfigurationError: the schema was made by a newer version of this software.
    """
    config = Config()
    config.set_main_option("script_location", str(files("crm_pipeline.warehouse") / "migrations"))
    known = {s.revision for s in ScriptDirectory.from_config(config).walk_revisions()}
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {CONTROL_SCHEMA}"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(
                f"The warehouse's schema {CONTROL_SCHEMA} was made by a newer version of CRM "
                f"Pipeline (this one knows up to {max(known)}). Upgrade CRM Pipeline."
            ) from error
