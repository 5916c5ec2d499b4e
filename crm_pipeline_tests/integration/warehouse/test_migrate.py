"""The control schema is looked at cheaply, and touched only when something lacks."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from crm_pipeline.warehouse import migrate as migrating
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.migrate import migrate, newest_revision

LOADED = """
import sys
from crm_pipeline.warehouse.migrate import migrate
migrate(sys.argv[1])
print("alembic" in sys.modules, "sqlalchemy" in sys.modules)
"""


def test_a_schema_that_is_current_costs_no_migration_tool(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, database_url], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_an_empty_database_gets_the_newest_schema(empty_database_url: str) -> None:
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        row = connection.execute("SELECT version_num FROM crm_sync.alembic_version").fetchone()
    versions = Path(migrating.__file__).parent / "migrations" / "versions"
    assert row == (newest_revision(),)
    assert newest_revision() == max(file.stem[:4] for file in versions.glob("[0-9]*.py"))


def test_what_lacks_beside_the_version_is_made_again(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("REVOKE ALL ON crm_sync.sync_status FROM analyst")
        connection.execute("DROP SCHEMA salesforce CASCADE")
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT has_table_privilege('analyst', 'crm_sync.sync_status', 'SELECT'),"
            " has_schema_privilege('analyst', 'salesforce', 'USAGE')"
        ).fetchone()
    assert row == (True, True)


def test_two_warehouses_of_one_server_that_begin_at_once_both_let_analysts_in(
    tmp_path: Path,
) -> None:
    """The role belongs to the server: whoever comes second waits for it, and goes on."""
    server = EmbeddedPostgres(tmp_path / "home", settings={"fsync": "off"})
    url = server.ensure_running()
    try:
        with (
            psycopg.connect(url) as other,
            psycopg.connect(url, autocommit=True) as watcher,
            ThreadPoolExecutor(1) as pool,
        ):
            other.execute("CREATE ROLE analyst NOLOGIN")
            migrated = pool.submit(migrate, url)
            deadline = time.monotonic() + 10
            while not watcher.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ).fetchone():
                assert time.monotonic() < deadline, "nobody waits"
            other.commit()
            migrated.result()
            assert watcher.execute(
                "SELECT has_table_privilege('analyst', 'crm_sync.sync_status', 'SELECT')"
            ).fetchone() == (True,)
    finally:
        server.stop()
