"""`crm-pipeline` as people run it: real processes, a real org over HTTP, a real database."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline_tests.house import House

OBJECTS: dict[str, Any] = {
    "Lead": {"fields": ["FirstName", "LastName", "Email", "Status"]},
    "Account": {"fields": ["Name"]},
}
COMMAND = [sys.executable, "-m", "crm_pipeline.cli.main"]


def crm_pipeline(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    environment: dict[str, str] = dict(os.environ)
    for name, value in variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused command says, which is all of stderr."""
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A sandbox org with a few hundred records, and a settings file for two objects."""
    monkeypatch.chdir(tmp_path)
    org = SandboxOrg()
    seed_org(org, records=300)
    with running(org) as served:
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(version=1, objects=OBJECTS, marketing={"enabled": False})
        yield made
    org.close()
    drop_dagster_database(database_url)


def drop_dagster_database(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = f"{connection.info.dbname}_dagster"
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def test_full_and_differential_syncs_and_one_record_from_the_command_line(house: House) -> None:
    full = crm_pipeline("sync", "full", "--json")
    assert full.returncode == 0, full.stderr
    report = json.loads(full.stdout)
    rows = {row["object_name"]: row for row in report["objects"]}
    assert report["is_success"]
    assert rows["Lead"]["rows_in_table"] == house.org.count("Lead")
    house.assert_in_step("Lead", "Account")

    lead = str(house.org.query("SELECT Id FROM Lead ORDER BY Id LIMIT 1")[0]["Id"])
    house.org.update("Lead", lead, {"LastName": "Changed"})
    differential = crm_pipeline("sync", "differential")
    assert differential.returncode == 0, differential.stderr
    assert "committed" in differential.stdout
    house.assert_in_step("Lead", "Account")

    house.org.update("Lead", lead, {"LastName": "Changed again"})
    record = crm_pipeline("sync", "record", "lead", lead)
    assert record.returncode == 0, record.stderr
    house.assert_in_step("Lead")

    status = json.loads(crm_pipeline("status", "--json").stdout)
    assert {row["object_name"] for row in status["objects"]} >= {"Lead", "Account"}
    assert status["last_differential_at"] is not None


@contextmanager
def full_sync_elsewhere(house: House) -> Iterator[None]:
    """Somebody else's full sync owns the leads for the length of the block."""
    warehouse = Warehouse(house.database_url)
    with held_lease(warehouse, "Lead", owner="another deployment", mode=SyncMode.FULL):
        yield


def test_g2_g4_a_differential_during_a_full_sync_is_refused_with_the_reason(house: House) -> None:
    house.full()
    with full_sync_elsewhere(house):
        refused = crm_pipeline("sync", "differential")
    assert refused.returncode == 1
    assert "A full sync is at work on Lead (run another deployment)" in sentence(refused)
    assert refused.stdout == ""


def test_g1_g4_a_full_sync_waits_for_the_one_at_work_and_says_so(house: House) -> None:
    house.full()
    with full_sync_elsewhere(house):
        waiting = subprocess.Popen(
            [*COMMAND, "sync", "full"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        seen = next(line for line in waiting.stderr if line.startswith("Waiting for"))
        assert seen == "Waiting for a full sync of Lead (run another ).\n"
    # Both pipes at once, or a full one would stop the command.
    reader = threading.Thread(target=waiting.stderr.read)
    reader.start()
    waiting.communicate()
    reader.join()
    assert waiting.returncode == 0


def test_g12_o1_a_failing_object_makes_the_command_fail_and_is_named(house: House) -> None:
    house.org.forbid_object("Account")
    failed = crm_pipeline("sync", "full", "--json")
    assert failed.returncode == 1
    assert "Account" in sentence(failed)
    report = json.loads(failed.stdout)
    assert not report["is_success"]
    house.assert_in_step("Lead")


def test_a_refused_login_is_a_matter_of_settings(house: House) -> None:
    refused = crm_pipeline("sync", "full", SALESFORCE_CLIENT_SECRET="wrong")
    assert refused.returncode == 2
    assert "SALESFORCE_CLIENT_SECRET" in sentence(refused)
    assert "wrong" not in refused.stdout + refused.stderr


def test_g10_disabled_syncs_are_refused_with_the_reason(house: House) -> None:
    house.configure(syncs_enabled=False)
    refused = crm_pipeline("sync", "full")
    assert refused.returncode == 1
    assert "Syncs are disabled" in sentence(refused)


def test_o4_status_fails_for_monitoring_while_something_needs_a_person(house: House) -> None:
    assert crm_pipeline("status").returncode == 0
    unsynced = crm_pipeline("status", "--fail-on-alert")
    assert unsynced.returncode == 1
    assert "ALERT never_synced: Lead was never fully synced" in unsynced.stdout
    house.full()
    assert crm_pipeline("status", "--fail-on-alert").returncode == 0
    nowhere = "postgresql://nobody:x@127.0.0.1:1/nothing"
    down = crm_pipeline("status", "--fail-on-alert", CRM_PIPELINE_DATABASE_URL=nowhere)
    assert down.returncode == 1
    house.execute(
        "UPDATE crm_sync.object_state SET held_disappearance = 120 WHERE object_name = 'Lead'"
    )
    held = crm_pipeline("status", "--fail-on-alert", "--json")
    assert held.returncode == 1
    (alert,) = json.loads(held.stdout)["alerts"]
    assert (alert["object_name"], alert["kind"], alert["size"]) == ("Lead", "held", 120)


def test_b10_a_disappearance_is_accepted_by_the_command_that_its_error_names(house: House) -> None:
    house.full()
    with house.org.transaction() as connection:
        connection.execute('DELETE FROM "Lead"')
    refused = crm_pipeline("sync", "reconcile", "--objects", "Lead")
    assert refused.returncode == 1
    assert "crm-pipeline accept Lead" in refused.stderr
    accepted = crm_pipeline("accept", "lead")
    assert accepted.returncode == 0, accepted.stderr
    assert "rows as gone" in accepted.stdout
    assert crm_pipeline("sync", "reconcile", "--objects", "Lead").returncode == 0
    house.assert_in_step("Lead")
    assert crm_pipeline("accept", "Lead").returncode == 2, "nothing waits any more"


def test_a_refresh_fills_a_new_column_from_the_command_line(house: House) -> None:
    house.full()
    fields = [*OBJECTS["Account"]["fields"], "Industry"]
    house.configure(objects={**OBJECTS, "Account": {"fields": fields}})
    done = crm_pipeline("sync", "refresh", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["object_name"] for row in json.loads(done.stdout)["objects"]} == {"Account"}
    house.assert_in_step("Account")
