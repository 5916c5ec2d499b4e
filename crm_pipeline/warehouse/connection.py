"""The warehouse's address: who connects, how, and under which schema names.

Belongs here: how a connection is made. Does not belong here: what is asked over it.
"""

import re
import selectors
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

from crm_pipeline.errors import ConfigurationError, CrmPipelineError, TransientError
from crm_pipeline.warehouse.wording import values_kept_in

CONTROL_SCHEMA = "crm_sync"
STAGING_SCHEMA = "crm_staging"
EVENTS_SCHEMA = "events"
HISTORY_SCHEMA = "history"
EVENT_LOAD_LOCK = 7_264_611_919
"""Advisory lock of whoever loads events from files, and of whoever erases them."""
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


class _IdleConnections:
    """Connections that wait for their next use, while a block keeps them."""

    def __init__(self) -> None:
        self._waiting: list[psycopg.Connection] = []
        self._blocks = 0
        self._lock = threading.Lock()

    @contextmanager
    def kept(self) -> Iterator[None]:
        with self._lock:
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                over = [] if self._blocks else self._waiting[:]
                self._waiting = self._waiting if self._blocks else []
            for connection in over:
                connection.close()

    def take(self) -> psycopg.Connection | None:
        with self._lock:
            while self._waiting:
                connection = self._waiting.pop()
                if not _has_ended(connection):
                    return connection
                connection.close()
        return None

    def give_back(self, connection: psycopg.Connection) -> None:
        with self._lock:
            if self._blocks and not connection.closed:
                self._waiting.append(connection)
                return
        connection.close()


def _has_ended(connection: psycopg.Connection) -> bool:
    """Whether the server has hung up: nothing else comes over a connection that asked nothing."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(0))


@dataclass(frozen=True)
class Warehouse:
    """One PostgreSQL database that holds the tables of one organisation.

    Attributes:
        url: `postgresql://user:password@host:port/database`.
        crm_schema: where the typed tables stand, named after the CRM.
    """

    url: str
    crm_schema: str = "salesforce"
    _idle: _IdleConnections = field(init=False, default_factory=_IdleConnections, compare=False)

    def __repr__(self) -> str:
        """Never shows the password."""
        return f"Warehouse(crm_schema={self.crm_schema!r})"

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
        """A connection for nobody else: commits at the end, or rolls back and closes on an error.

        Errors of the database that leave it hold no value of any record.

        Raises:
            TransientError: the server cannot be reached or is starting, or its disk is full.
            ConfigurationError: the address cannot be read.
        """
        with values_kept_in():
            connection = self._idle.take() or self._opened()
            try:
                connection.autocommit = autocommit
                yield connection
                if not connection.closed:
                    connection.commit()
            except BaseException as error:
                with suppress(psycopg.Error):
                    connection.rollback()
                connection.close()
                if isinstance(error, psycopg.errors.DiskFull):
                    raise TransientError(
                        "The warehouse's disk is full; nothing was changed. Free space there, and "
                        "the next sync goes on by itself."
                    ) from error
                raise
            self._idle.give_back(connection)

    @contextmanager
    def reusing_connections(self) -> Iterator[None]:
        """Within the block, connections are used again: opening one costs as much as many queries.

        At its end they are closed.
        """
        with self._idle.kept():
            yield

    def _opened(self) -> psycopg.Connection:
        problem: CrmPipelineError
        try:
            try:
                return self._open(options=_SESSION)
            except psycopg.OperationalError as error:
                if _REFUSED_BY_POOLER not in str(error):
                    raise
                return self._open(options="")
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

    def _open(self, *, options: str) -> psycopg.Connection:
        return psycopg.connect(
            self.url.replace(_PSYCOPG_PREFIX, "postgresql://", 1),
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
