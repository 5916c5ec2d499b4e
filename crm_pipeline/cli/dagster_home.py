"""Dagster's home: where its settings stand and in which database it keeps its runs.

Every command that touches Dagster prepares the home first, so that runs from the command line, the
UI and the schedule meet in one place. Belongs here: files and variables that Dagster reads. Does
not belong here: importing Dagster, and running anything.

The database is, in this order: CRM_PIPELINE_DAGSTER_DATABASE_URL; `dagster` in the embedded server;
`<database>_dagster` on the operator's own server, created if we may. Never the warehouse's own
database: both sides keep a table of migrations under the same name.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crm_pipeline.config.environment import Environment
from crm_pipeline.errors import ConfigurationError, TransientError, UsageError
from crm_pipeline.warehouse.connection import refusal_of
from crm_pipeline.warehouse.embedded import DATABASES, EmbeddedPostgres

DATABASE_URL = "CRM_PIPELINE_DAGSTER_DATABASE_URL"
_PREFIX = "CRM_PIPELINE_DAGSTER_PG_"
_TEMPLATE = "dagster.yaml"
# What libpq reads from the environment where the template has no place for it.
_LIBPQ_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}
QUIET = {
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DO_NOT_TRACK": "1",
}
"""Nothing leaves the machine."""


@dataclass(frozen=True, slots=True)
class DagsterHome:
    """A prepared home.

    Attributes:
        variables: what a process of Dagster's needs in its environment; holds a password.
    """

    folder: Path
    variables: Mapping[str, str]

    def enter(self) -> None:
        """Make this process one that uses the home."""
        os.environ.update(self.variables)


def prepare_dagster_home(environment: Environment) -> DagsterHome:
    """Start the embedded server if it is used, write dagster.yaml, and name the database.

    Raises:
        UsageError: there is no database for Dagster and we may not create one.
        TransientError: the server does not answer.
    """
    address = _address(environment)
    folder = environment.home.resolve() / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    template = files("crm_pipeline.defs").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    _write_if_different(folder / "dagster.yaml", template)
    return DagsterHome(
        folder,
        {
            **QUIET,
            "DAGSTER_HOME": str(folder),
            "CRM_PIPELINE_HOME": str(environment.home.resolve()),
            "CRM_PIPELINE_CONFIG": str(environment.config_file.resolve()),
            f"{_PREFIX}USERNAME": address.get("user", ""),
            f"{_PREFIX}PASSWORD": address.get("password", ""),
            f"{_PREFIX}HOST": address.get("host", "localhost"),
            f"{_PREFIX}PORT": address.get("port", "5432"),
            f"{_PREFIX}DATABASE": address["dbname"],
            **{_LIBPQ_VARIABLES[k]: v for k, v in address.items() if k in _LIBPQ_VARIABLES},
        },
    )


def _write_if_different(file: Path, text: str) -> None:
    # Several commands may prepare at once, and Dagster must never see half a file.
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        new = file.with_name(f"{file.name}.{os.getpid()}")
        new.write_text(text, encoding="utf-8")
        new.replace(file)


def _address(environment: Environment) -> dict[str, str]:
    """The parts of Dagster's database address."""
    if given := os.environ.get(DATABASE_URL):
        return _parts(given, DATABASE_URL)
    if environment.database_url is None:
        server = EmbeddedPostgres(environment.home)
        server.ensure_running()
        return _parts(server.url(DATABASES[1]), "the embedded server")
    parts = _parts(environment.database_url.get_secret_value(), "CRM_PIPELINE_DATABASE_URL")
    name = f"{parts['dbname']}_dagster"[-63:]
    _ensure_database(parts, name)
    return {**parts, "dbname": name}


def _parts(url: str, where: str) -> dict[str, str]:
    _, _, rest = url.partition("://")
    found: Mapping[str, object] | None = None
    with suppress(psycopg.ProgrammingError):
        found = conninfo_to_dict(f"postgresql://{rest}")
    if found is None:  # without a cause: it would quote the password
        raise ConfigurationError(
            f"{where} is no PostgreSQL address; write postgresql://user:password@host:5432/name."
        )
    parts = {key: str(value) for key, value in found.items() if value is not None}
    if "dbname" not in parts:
        raise ConfigurationError(f"{where} names no database; write its name after the last slash.")
    return parts


def _ensure_database(parts: Mapping[str, str], name: str) -> None:
    try:
        with psycopg.connect(
            make_conninfo("", **parts), autocommit=True, connect_timeout=10
        ) as connection:
            row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if row.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.errors.DuplicateDatabase:
        return  # another command was quicker
    except psycopg.errors.InsufficientPrivilege as error:
        owner = parts.get("user", "our user")
        raise UsageError(
            f"Dagster needs a database of its own and {owner} may not create one. Let an "
            f'administrator run: CREATE DATABASE "{name}" OWNER "{owner}"; or set {DATABASE_URL} '
            "to another database."
        ) from error
    except psycopg.OperationalError as error:
        reason = refusal_of(error)
    else:
        return
    raise TransientError(
        f"The warehouse does not answer: {reason}. Check CRM_PIPELINE_DATABASE_URL, or that the "
        "server is running."
    )
