"""The warehouse's address: who connects, how, and under which schema names.

Belongs here: how a connection is made. Does not belong here: what is asked over it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from crm_pipeline.errors import ConfigurationError, CrmPipelineError, TransientError
from crm_pipeline.warehouse.wording import values_kept_in

CONTROL_SCHEMA = "crm_sync"
STAGING_SCHEMA = "crm_staging"
MINIMUM_SERVER_VERSION = 160000
# No statement relies on these: they are a belt where the session is ours from end to end.
_SESSION = (
    "-c search_path=pg_catalog -c TimeZone=UTC -c DateStyle=ISO"
    # A worker whose host vanished must not hold locks for hours.
    " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
    " -c idle_in_transaction_session_timeout=10min"
)
_PSYCOPG_PREFIX = "postgresql+psycopg://"
_REFUSED_BY_POOLER = "unsupported startup parameter"


@dataclass(frozen=True)
class Warehouse:
    """One PostgreSQL database that holds the tables of one organisation.

    Attributes:
        url: `postgresql://user:password@host:port/database`.
        crm_schema: where the typed tables stand, named after the CRM.
    """

    url: str
    crm_schema: str = "salesforce"

    def __repr__(self) -> str:
        """Never shows the password."""
        return f"Warehouse(crm_schema={self.crm_schema!r})"

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
        """A connection of its own: commits at the end, rolls back on an error, always closes.

        Errors of the database that leave it hold no value of any record.

        Raises:
            TransientError: the server cannot be reached or is starting, or its disk is full.
            ConfigurationError: the address cannot be read.
        """
        with values_kept_in(), self._opened(autocommit=autocommit) as connection:
            try:
                yield connection
            except psycopg.errors.DiskFull as error:
                raise TransientError(
                    "The warehouse's disk is full; nothing was changed. Free space there, and the "
                    "next sync goes on by itself."
                ) from error

    def _opened(self, *, autocommit: bool) -> psycopg.Connection:
        problem: CrmPipelineError
        try:
            try:
                return self._open(autocommit=autocommit, options=_SESSION)
            except psycopg.OperationalError as error:
                if _REFUSED_BY_POOLER not in str(error):
                    raise
                return self._open(autocommit=autocommit, options="")
        except psycopg.OperationalError as error:
            problem = TransientError(
                "The warehouse does not answer: "
                f"{refusal_of(error)}. Check CRM_PIPELINE_DATABASE_URL, or that the server is "
                "running."
            )
        except psycopg.ProgrammingError:
            problem = ConfigurationError(
                "CRM_PIPELINE_DATABASE_URL is no PostgreSQL address; write "
                "postgresql://user:password@host:5432/name, with @, / and % in a password written "
                "as %40, %2F and %25."
            )
        # Raised outside of the except block: the cause could quote the password.
        raise problem

    def _open(self, *, autocommit: bool, options: str) -> psycopg.Connection:
        return psycopg.connect(
            self.url.replace(_PSYCOPG_PREFIX, "postgresql://", 1),
            autocommit=autocommit,
            # A statement prepared in one session is unknown in the next one of a pooler.
            prepare_threshold=None,
            connect_timeout=10,
            application_name="crm_pipeline",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            options=options,
        )

    def require_supported_server(self) -> None:
        """Refuse servers on which the quarantine's casts do not exist.

        Raises:
            ConfigurationError: the server is older than PostgreSQL 16.
        """
        with self.connect(autocommit=True) as connection:
            if connection.info.server_version < MINIMUM_SERVER_VERSION:
                raise ConfigurationError(
                    "CRM_PIPELINE_DATABASE_URL leads to PostgreSQL "
                    f"{connection.info.server_version // 10000}; version 16 or newer is needed."
                )


def refusal_of(error: psycopg.OperationalError) -> str:
    """Why a server could not be reached, in one line.

    A host that cannot be found and a port that is none are not repeated: where somebody forgot to
    write the @ in a password as %40, they are the rest of the password.
    """
    reason = str(error).strip().splitlines()[0]
    if re.search("resolve host|translate host|invalid", reason):
        return re.sub("(['\"]).*\\1", "…", reason)
    return reason
