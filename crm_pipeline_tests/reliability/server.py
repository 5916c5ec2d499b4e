"""A PostgreSQL of the proofs' own, which may be stopped at any moment.

Belongs here: the server, databases made from templates in milliseconds, the immediate stop. Does
not belong here: what stands in a database (lab.py).

It trusts loopback: the engine opens a connection for each step, and a password costs more than the
step. It does not wait for the disk: what the proofs break are processes, never the machine.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.migrate import migrate

_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
    "autovacuum": "off",
}
_TRUST = "host all all 127.0.0.1/32 trust\n"
_PLAIN = "?sslmode=disable&gssencmode=disable"
_EMPTY = "migrated"
_numbers = count(1)


class ProofServer:
    """One embedded PostgreSQL under a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._embedded = EmbeddedPostgres(home, settings=_SETTINGS)
        self._admin: psycopg.Connection | None = None

    def start(self) -> None:
        """Start it, after an immediate stop too."""
        self._embedded.ensure_running()

    def stop_immediately(self) -> None:
        """What `pg_ctl stop -m immediate` does: no checkpoint, no goodbye."""
        pid = int((self.home / "postgres/data/postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        while self._embedded.is_running():
            time.sleep(0.002)

    def restart_immediately(self) -> None:
        """Crash it, and let it recover."""
        self.stop_immediately()
        self.start()

    def prepare(self) -> None:
        """Trust loopback, and make the database that all others are copied from."""
        self.start()
        (self.home / "postgres/data/pg_hba.conf").write_text(_TRUST)
        with psycopg.connect(self._embedded.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"CREATE DATABASE {_EMPTY}".encode())
        migrate(self.url(_EMPTY))

    def url(self, database: str) -> str:
        """The address of a database."""
        return self._embedded.url(database) + _PLAIN

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self._embedded.url("postgres")).port
        assert port is not None
        return port

    def copy(self, template: str = _EMPTY) -> str:
        """A new database with the content of another one, which nobody may be using."""
        name = f"copy_{next(_numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, database: str) -> None:
        """Drop a database, whoever is using it."""
        self._execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        for _ in range(3):
            with suppress(psycopg.OperationalError):
                if self._admin is None or self._admin.closed:
                    self._admin = psycopg.connect(self.url("postgres"), autocommit=True)
                self._admin.execute(statement.encode())
                return
            self._admin = None
            self.start()
        raise AssertionError(f"the server refuses: {statement}")

    def end(self) -> None:
        """Stop it for good."""
        if self._admin is not None:
            self._admin.close()
        self._embedded.stop()


@contextmanager
def proof_server() -> Iterator[ProofServer]:
    """A server that is gone afterwards, with its folder."""
    with tempfile.TemporaryDirectory(prefix="proofs-") as folder:
        Path(folder).chmod(0o755)
        server = ProofServer(Path(folder))
        try:
            server.prepare()
            yield server
        finally:
            server.end()
