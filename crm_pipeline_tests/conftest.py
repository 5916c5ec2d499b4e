"""Fixtures that every room's tests may ask for: a database of their own, and a clock.

Holds the PostgreSQL that the tests share and what is handed out from it. Does not belong here:
fixtures of one room (its own conftest.py).
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.migrate import migrate

_SERVER_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
}

# Every test process holds a shared lock for its lifetime, however it ends. The warden waits for the
# exclusive one, so it gets to work when the last of them is gone, and not before.
_WARDEN = """
import fcntl, shutil, sys
from pathlib import Path
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

users, home = sys.argv[1:]
with open(users) as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    EmbeddedPostgres(Path(home)).stop()
    shutil.rmtree(home)
"""


class FixedClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, instant: datetime) -> None:
        self._instant = instant

    def now(self) -> datetime:
        """The instant at which it stands."""
        return self._instant

    def advance(self, **amount: float) -> datetime:
        """Move on by the arguments of a timedelta and return the new instant."""
        self._instant += timedelta(**amount)
        return self._instant


@pytest.fixture
def fixed_clock() -> FixedClock:
    """A clock at noon, the first Monday of March 2026, in UTC."""
    return FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an administrator's database; one server serves all test processes."""
    if given := os.environ.get("CRM_PIPELINE_TEST_DATABASE_URL"):
        yield given
        return
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    home, users = shared / "database-server", shared / "database-server.users"
    with users.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        home.mkdir(exist_ok=True)
        _post_warden(home, users)
        server = EmbeddedPostgres(home, settings=_SERVER_SETTINGS)
        server.ensure_running()
        yield server.url("postgres")


@pytest.fixture(scope="session")
def _migrated_template(database_server: str) -> Iterator[str]:
    with new_database(database_server, prefix="template") as url:
        migrate(url)
        yield urlsplit(url).path[1:]


@pytest.fixture
def database_url(database_server: str, _migrated_template: str) -> Iterator[str]:
    """The address of a fresh database with the control schema, dropped after the test."""
    with new_database(database_server, template=_migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(database_server: str) -> Iterator[str]:
    """The address of a fresh database with nothing in it, dropped after the test."""
    with new_database(database_server, prefix="empty") as url:
        yield url


def pytest_unconfigure(config: pytest.Config) -> None:
    """Wait until the warden has stopped the server, so that nothing outlives the test command."""
    factory = getattr(config, "_tmp_path_factory", None)
    shared: Path | None = getattr(factory, "_basetemp", None)
    if shared is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    deadline = time.monotonic() + 30
    while (shared / "database-server").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def new_database(
    server: str, *, prefix: str = "test", template: str = "template1"
) -> Iterator[str]:
    """The address of a database that is dropped afterwards; a copy of another one if named."""
    name = f"{prefix}_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode()
        )
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _post_warden(home: Path, users: Path) -> None:
    with suppress(FileExistsError):
        (home / "warden.log").touch(exist_ok=False)
        # The shell lets go of the warden at once: it must outlive us, in a session of its own.
        background = 'exec "$@" >"$LOG" 2>&1 &'
        subprocess.run(
            ["sh", "-c", background, "sh", sys.executable, "-c", _WARDEN, str(users), str(home)],
            env={**os.environ, "LOG": str(home.parent / "database-server.warden.log")},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
