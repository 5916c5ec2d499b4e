"""Brings the control schema to the version that this code was written for.

Belongs here: running migrations. Does not belong here: finding out that there is nothing to do
(migrate.py), the migrations (migrations/versions/) and the typed tables of CRM objects, which
follow the CRM's describe.
"""

from importlib.resources import files

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.pool import NullPool

from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.actions import REQUEST_COLUMNS
from crm_pipeline.model.events import COLUMNS
from crm_pipeline.warehouse.connection import (
    CONTROL_SCHEMA,
    EVENTS_SCHEMA,
    HISTORY_SCHEMA,
    STAGING_SCHEMA,
)

_LOCK_KEY = 7_264_611_918
_SCHEMAS = {
    CONTROL_SCHEMA: "What CRM Pipeline remembers. Read the views; leave the tables to it.",
    STAGING_SCHEMA: "Half-read syncs. Nothing here is complete.",
    EVENTS_SCHEMA: "Marketing events, and what they and the CRM say of consent.",
    HISTORY_SCHEMA: "Former values of records; ask history.as_of and history.of_record.",
}
_ANALYST = (
    (
        "DO $$ BEGIN IF to_regrole('analyst') IS NULL THEN CREATE ROLE analyst NOLOGIN; END IF;"
        " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    ),
    f"GRANT USAGE ON SCHEMA {CONTROL_SCHEMA}, {EVENTS_SCHEMA}, {HISTORY_SCHEMA} TO analyst",
    'GRANT USAGE ON SCHEMA "{schema}" TO analyst',
    f"GRANT SELECT ON {CONTROL_SCHEMA}.sync_status TO analyst",
    f"GRANT SELECT ON {CONTROL_SCHEMA}.write_back_log TO analyst",
    f"GRANT SELECT ON {CONTROL_SCHEMA}.write_back_balance TO analyst",
    f"GRANT SELECT ON {CONTROL_SCHEMA}.action_log TO analyst",
    f"GRANT SELECT ON {CONTROL_SCHEMA}.write_back_decisions TO analyst",
    f"GRANT SELECT ON {EVENTS_SCHEMA}.marketing_events, {EVENTS_SCHEMA}.consent_ledger TO analyst",
    f'GRANT SELECT ON ALL TABLES IN SCHEMA {HISTORY_SCHEMA}, "{{schema}}" TO analyst',
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA {HISTORY_SCHEMA} GRANT SELECT ON TABLES TO analyst",
    'ALTER DEFAULT PRIVILEGES IN SCHEMA "{schema}" GRANT SELECT ON TABLES TO analyst',
)
# Columns of the contract, and no others: when an event was stored, in which transaction, and what
# became of an action are not the sender's to say.
_TOOLS = {
    "event_writer": (
        f"GRANT USAGE ON SCHEMA {EVENTS_SCHEMA} TO event_writer",
        f"GRANT INSERT ({', '.join(COLUMNS)}) ON {EVENTS_SCHEMA}.marketing_events TO event_writer",
    ),
    "action_writer": (
        f"GRANT USAGE ON SCHEMA {CONTROL_SCHEMA} TO action_writer",
        f"GRANT INSERT ({', '.join(REQUEST_COLUMNS)}) ON {CONTROL_SCHEMA}.action TO action_writer",
    ),
}


def sqlalchemy_url(url: str) -> str:
    """The same address with the driver spelt out: a bare scheme means another driver elsewhere."""
    _, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}"


def upgrade(url: str, *, crm_schema: str) -> None:
    """Create or upgrade the control schema, and let analysts in; does nothing that is done already.

    The whole upgrade is one transaction, and two processes that start at once take turns.

    Args:
        url: the warehouse.
        crm_schema: where typed tables will stand, named after the CRM.

    Raises:
        ConfigurationError: the schema was made by a newer version of this software, or our user
            may not create what is missing.
    """
    config = Config()
    config.set_main_option("script_location", str(files("crm_pipeline.warehouse") / "migrations"))
    known = {s.revision for s in ScriptDirectory.from_config(config).walk_revisions()}
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            for schema, comment in _SCHEMAS.items():
                _ensure_schema(connection, schema, comment)
            _ensure_schema(connection, crm_schema, "Tables of the CRM, one per object.")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _let_analysts_in(connection, crm_schema)
            _let_tools_in(connection)
    except CommandError as error:
        raise ConfigurationError(
            f"The warehouse's schema {CONTROL_SCHEMA} was made by a newer version of CRM "
            f"Pipeline (this one knows up to {max(known)}). Upgrade CRM Pipeline."
        ) from error
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        raise ConfigurationError(
            "The warehouse's user may not create what is missing: "
            f"{str(error.orig).splitlines()[0]}. Let it: GRANT CREATE ON DATABASE to it, or make "
            f"the schemas {', '.join(_SCHEMAS)} and {crm_schema} for it."
        ) from error


def _ensure_schema(connection: Connection, schema: str, comment: str) -> None:
    """Create a schema if it is missing; the right to do so is asked for only then."""
    found = connection.execute(text("SELECT to_regnamespace(:name)"), {"name": schema}).scalar()
    if found is None:
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))
        quoted = comment.replace("'", "''")
        connection.execute(text(f"COMMENT ON SCHEMA \"{schema}\" IS '{quoted}'"))


def _let_analysts_in(connection: Connection, crm_schema: str) -> None:
    """Give the role `analyst` what it may read; where we may not create it, the operator does."""
    savepoint = connection.begin_nested()
    try:
        for statement in _ANALYST:
            connection.execute(text(statement.format(schema=crm_schema)))
        savepoint.commit()
    except (ProgrammingError, IntegrityError):
        savepoint.rollback()


def _let_tools_in(connection: Connection) -> None:
    """Give each tool's role what it may insert, where the operator has made the role."""
    for role, statements in _TOOLS.items():
        is_made = text("SELECT to_regrole(:role)"), {"role": role}
        if connection.execute(*is_made).scalar() is not None:
            for statement in statements:
                connection.execute(text(statement))
