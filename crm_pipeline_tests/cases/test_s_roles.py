"""S11: who may do what in the warehouse, asked from PostgreSQL itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sync.reference import sync_reference_dataset
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.migrate import migrate
from crm_pipeline.warehouse.upgrade import _let_tools_in as let_tools_in
from crm_pipeline.warehouse.upgrade import sqlalchemy_url
from crm_pipeline_tests.house import House

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-database.md"
OBJECTS: dict[str, Any] = {"Lead": {"fields": ["LastName", "Email", "NumberOfEmployees"]}}
PUBLISHED = {
    *("crm_sync.sync_status", "events.marketing_events", "events.consent_ledger"),
    *("history.version", "history.kept_table"),
    *("crm_sync.write_back_log", "crm_sync.write_back_balance", "crm_sync.write_back_decisions"),
    "crm_sync.action_log",
}
READABLE = {"salesforce.lead", "salesforce.users", *PUBLISHED}
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
MATRIX = """
SELECT n.nspname || '.' || c.relname, r.name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     unnest(%(rights)s::text[]) r(name)
WHERE n.nspname IN ('crm_sync', 'crm_staging', 'events', 'history', 'salesforce', 'marketing',
                    'public')
AND c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(%(role)s, c.oid, r.name)
AND has_schema_privilege(%(role)s, n.oid, 'USAGE')
"""


def rights_of(url: str, role: str) -> set[tuple[str, str]]:
    """Relations of ours, and what a role may do with them."""
    with psycopg.connect(url) as connection:
        found = connection.execute(MATRIX, {"role": role, "rights": list(RIGHTS)})
        return {(str(relation), str(right)) for relation, right in found}


def statements_of(block: str) -> str:
    """The page's block of that name."""
    found = re.search(rf"^```sql {block}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@dataclass
class Split:
    """A database whose roles were made as the page says, under names of their own."""

    server: str
    suffix: str

    def name(self, word: str) -> str:
        return f"{word}_{self.suffix}"

    def url(self, role: str, database: str = "warehouse") -> str:
        parts = urlsplit(self.server)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(
            netloc=f"{self.name(role)}:...@{host}", path=f"/{self.name(database)}"
        ).geturl()

    def run(self, block: str, database: str | None = None) -> None:
        """The page's statements, one by one, as an administrator runs them."""
        path = self.name(database) if database else "postgres"
        text = re.sub(
            r"\b(crm_loader|crm_dagster|analyst|maria|warehouse|warehouse_dagster)\b",
            lambda word: self.name(word[0]),
            statements_of(block),
        )
        # The group role is the server's, not this database's: the software knows it by name.
        text = text.replace(self.name("analyst"), "analyst")
        text = text.replace("CREATE ROLE analyst NOLOGIN;\n", "")
        url = urlsplit(self.server)._replace(path=f"/{path}").geturl()
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in text.split(";\n"):
                if statement.strip():
                    connection.execute(statement.encode())


@pytest.fixture
def split(database_server: str, database_url: str) -> Iterator[Split]:
    del database_url  # its template's migration has made the role analyst
    made = Split(database_server, uuid4().hex[:8])
    try:
        made.run("roles")
        made.run("schemas", "warehouse")
        made.run("person", "warehouse")
        yield made
    finally:
        with psycopg.connect(database_server, autocommit=True) as connection:
            for database in ("warehouse", "warehouse_dagster"):
                name = made.name(database)
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            for role in ("crm_loader", "crm_dagster", "maria"):
                connection.execute(f"DROP ROLE IF EXISTS {made.name(role)}".encode())


@pytest.fixture
def org() -> Iterator[SandboxOrg]:
    org = SandboxOrg()
    seed_org(org, records=40)
    yield org
    org.close()


@pytest.fixture
def house(
    split: Split, org: SandboxOrg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    """A house whose engine is the loader and nobody else, after syncs of every kind."""
    with running(org) as served:
        made = House(org, served, tmp_path, split.url("crm_loader"), monkeypatch)
        made.configure(version=1, objects=OBJECTS, marketing={"enabled": False})
        made.full()
        lead = org.create("Lead", {"LastName": "Doe", "Company": "Acme"})
        made.sync()
        with made.engine() as engine:
            engine.sync_record("Lead", lead, run_id="by hand")
            sync_reference_dataset(engine, "users", run_id="users")
        made.assert_in_step("Lead")
        yield made


def test_s11_analysts_read_what_is_published_and_nothing_else(house: House, split: Split) -> None:
    house.execute("CREATE TABLE crm_staging.sync_99 AS SELECT * FROM salesforce.lead")
    for role in ("analyst", split.name("maria")):
        allowed = rights_of(split.url("crm_loader"), role)
        assert {right for _, right in allowed} == {"SELECT"}
        assert {relation for relation, _ in allowed} == READABLE


def test_s11_what_is_not_published_is_refused_to_a_person(house: House, split: Split) -> None:
    assert house.query("SELECT count(*) FROM salesforce.lead") != [(0,)]
    with psycopg.connect(split.url("maria"), autocommit=True) as maria:
        assert maria.execute("SELECT count(*) > 0 FROM lead").fetchone() == (True,)
        assert maria.execute("SELECT status FROM crm_sync.sync_status").fetchall()
        for statement in (
            "SELECT * FROM crm_sync.quarantine",
            "SELECT * FROM crm_sync.sync_run",
            "SELECT * FROM crm_sync.object_state",
            "SELECT * FROM events.quarantine",
            "SELECT * FROM events.event_file",
            "SELECT * FROM crm_sync.action",
            "INSERT INTO events.marketing_events VALUES ('1', now(), 'page_visited')",
            "UPDATE history.version SET former = '{}'",
            "DELETE FROM history.kept_table",
            "CREATE TABLE history.mine ()",
            "CREATE TABLE crm_staging.mine ()",
            "CREATE TABLE salesforce.mine ()",
            "CREATE TABLE public.mine ()",
            "CREATE SCHEMA mine",
            "CREATE TEMPORARY TABLE mine ()",
            "COPY lead TO PROGRAM 'cat'",
            "SET ROLE crm_loader",
        ):
            with pytest.raises(psycopg.Error):
                maria.execute(statement.encode())
        maria.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM lead", "UPDATE lead SET email = NULL", "TRUNCATE lead"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                maria.execute(statement.encode())


def test_s11_a_person_asks_the_time_machine_with_her_own_rights(house: House, split: Split) -> None:
    instant = house.query("SELECT clock_timestamp()")[0][0]
    house.execute("UPDATE salesforce.lead SET lastname = 'Later'")
    asked = f"SELECT count(*) FROM history.as_of(NULL::lead, '{instant}') WHERE lastname = 'Later'"
    with psycopg.connect(split.url("maria"), autocommit=True) as maria:
        assert maria.execute(asked.encode()).fetchone() == (0,)
        (one,) = maria.execute("SELECT min(id) FROM lead").fetchone() or ()
        told = maria.execute("SELECT FROM history.of_record('lead', %s)", [one]).fetchall()
        assert len(told) == 2
        house.execute("REVOKE SELECT ON salesforce.lead FROM analyst")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            maria.execute(asked.encode())
    found = house.query(
        "SELECT proname, prosecdef, proconfig::text ~ 'search_path=pg_catalog, pg_temp',"
        " has_function_privilege('analyst', oid, 'EXECUTE') FROM pg_proc"
        " WHERE pronamespace = 'history'::regnamespace AND prokind = 'f' ORDER BY 1"
    )
    assert found == [
        ("as_of", False, True, True),
        ("keep_former", True, True, False),
        ("kept", False, True, True),
        ("of_record", False, True, True),
    ]


@contextmanager
def as_tool(url: str, role: str, *, is_made_before: bool) -> Iterator[Connection]:
    """A tool's session; the role belongs to the server, so its transaction ends in nothing.

    Args:
        url: a warehouse.
        role: of the tool, made as the page says.
        is_made_before: the migration finds it and lets it in; else the page's grants do.
    """
    make, *grants = statements_of(role).strip().split("\n")
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(make)
        if is_made_before:
            let_tools_in(connection)
        else:
            for grant in grants:
                connection.exec_driver_sql(grant)
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        yield connection
        connection.rollback()


def refuse(connection: Connection, statement: str) -> None:
    savepoint = connection.begin_nested()
    with pytest.raises(ProgrammingError, match="permission denied"):
        connection.exec_driver_sql(statement)
    savepoint.rollback()


@pytest.mark.parametrize("is_made_before", [True, False])
def test_s11_tools_insert_events_and_do_nothing_else(
    database_url: str, *, is_made_before: bool
) -> None:
    with as_tool(database_url, "event_writer", is_made_before=is_made_before) as connection:
        connection.exec_driver_sql(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email)"
            " VALUES ('1', now(), 'email_unsubscribed', ' Ada@Example.org ')"
        )
        for statement in (
            "SELECT * FROM events.marketing_events",
            "UPDATE events.marketing_events SET kind = 'page_visited'",
            "DELETE FROM events.marketing_events",
            "INSERT INTO events.marketing_events (event_id, loaded_at) VALUES ('2', now())",
            "INSERT INTO events.consent_ledger (email) VALUES ('ada@example.org')",
            "SELECT * FROM events.consent_ledger",
            "SELECT * FROM history.version",
            "SELECT * FROM crm_sync.sync_status",
        ):
            refuse(connection, statement)
        connection.exec_driver_sql("RESET ROLE")
        noted = connection.exec_driver_sql(
            "SELECT email, status, evidence FROM events.consent_ledger"
        )
        assert noted.fetchall() == [("ada@example.org", "unsubscribed", "1")]


@pytest.mark.parametrize("is_made_before", [True, False])
def test_s11_tools_ask_for_actions_and_do_nothing_else(
    database_url: str, *, is_made_before: bool
) -> None:
    with as_tool(database_url, "action_writer", is_made_before=is_made_before) as connection:
        connection.exec_driver_sql(
            "INSERT INTO crm_sync.action (action_id, kind, object_name, match_email, fields)"
            """ VALUES ('1', 'create', 'Lead', ' Ada@Example.org ', '{"LastName": "A"}')"""
        )
        for statement in (
            "SELECT * FROM crm_sync.action",
            "SELECT * FROM crm_sync.action_log",
            "UPDATE crm_sync.action SET state = 'enqueued'",
            "DELETE FROM crm_sync.action",
            "INSERT INTO crm_sync.action (action_id, state) VALUES ('2', 'enqueued')",
            "INSERT INTO crm_sync.action (action_id, requested_at) VALUES ('2', now())",
            "INSERT INTO crm_sync.outbox (idempotency_key) VALUES ('action/1')",
            "SELECT * FROM crm_sync.outbox",
            "SELECT * FROM events.marketing_events",
        ):
            refuse(connection, statement)
        connection.exec_driver_sql("RESET ROLE")
        noted = connection.exec_driver_sql(
            "SELECT match_email, state, requested_by FROM crm_sync.action"
        )
        assert noted.fetchall() == [("ada@example.org", "requested", "action_writer")]


def test_s11_a_person_has_a_timeout_and_a_search_path_of_her_own(split: Split) -> None:
    with psycopg.connect(split.url("maria")) as maria:
        shown = {
            name: maria.execute(f"SHOW {name}".encode()).fetchone()
            for name in ("statement_timeout", "search_path", "default_transaction_read_only")
        }
    assert shown == {
        "statement_timeout": ("5min",),
        "search_path": ("salesforce, marketing",),
        "default_transaction_read_only": ("on",),
    }


def test_s11_the_loader_makes_no_schema_role_or_database(house: House, split: Split) -> None:
    assert house.query("SELECT count(*) FROM crm_sync.sync_run WHERE status = 'failed'") == [(0,)]
    with psycopg.connect(split.url("crm_loader"), autocommit=True) as loader:
        for statement in ("CREATE SCHEMA mine", "CREATE ROLE mine", "CREATE DATABASE mine"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                loader.execute(statement.encode())


def test_s11_dagster_cannot_reach_the_warehouse_nor_people_dagster(split: Split) -> None:
    with psycopg.connect(split.url("crm_dagster", "warehouse_dagster")) as own:
        own.execute("CREATE TABLE public.runs ()")
    for role, database in (("crm_dagster", "warehouse"), ("maria", "warehouse_dagster")):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(split.url(role, database))


def test_s11_our_own_sessions_look_up_nothing_by_a_path_that_others_can_fill(
    database_url: str,
) -> None:
    with psycopg.connect(database_url) as attacker:
        attacker.execute("CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS"
                         " $$ SELECT 'infinity'::timestamptz $$")  # fmt: skip
        attacker.execute("CREATE TABLE public.lease ()")
    with Warehouse(database_url).connect() as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)
        assert connection.execute("SELECT isfinite(now())").fetchone() == (True,)
        assert connection.execute("SELECT to_regclass('lease')").fetchone() == (None,)


def test_s11_the_first_migration_lets_analysts_read_and_does_it_once_more_without_harm(
    empty_database_url: str,
) -> None:
    for _ in range(2):
        migrate(empty_database_url)
    assert rights_of(empty_database_url, "analyst") == {(one, "SELECT") for one in PUBLISHED}
