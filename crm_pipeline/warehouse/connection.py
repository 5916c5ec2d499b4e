"""The warehouse's address: who connects, how, and under which schema names.

Belongs here: how a connection is made. Does not belong here: what is asked over it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from crm_pipeline.errors import ConfigurationError, TransientError

CONTROL_SCHEMA = "crm_sync"
STAGING_SCHEMA = "crm_staging"
MINIMUM_SERVER_VERSION = 160000
_SESSION = (
    "-c search_path=pg_catalog -c TimeZone=UTC -c DateStyle=ISO"
    # A worker whose host vanished must not hold locks for hours.
    " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
    " -c idle_in_transaction_session_timeout=10min"
)
_PSYCOPG_PREFIX = "postgresql+psycopg://"


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

        Raises:
            TransientError: the server cannot be reached or is starting, or its disk is full.
        """
        try:
            connection = psycopg.connect(
                self.url.replace(_PSYCOPG_PREFIX, "postgresql://", 1),
                autocommit=autocommit,
                connect_timeout=10,
                application_name="crm_pipeline",
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                options=_SESSION,
            )
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            raise TransientError(
                "The warehouse does not answer: "
                f"{reason}. Check CRM_PIPELINE_DATABASE_URL, or that the server is running."
            ) from error
        try:
            with connection:
                yield connection
        except psycopg.errors.DiskFull as error:
            raise TransientError(
                "The warehouse's disk is full; nothing was changed. Free space there, and the next "
                "sync goes on by itself."
            ) from error

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
