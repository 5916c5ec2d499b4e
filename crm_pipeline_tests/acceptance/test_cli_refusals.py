"""What `crm-pipeline` says when something is wrong: one sentence, and the right exit code."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running

SETTINGS = "version: 1\nobjects:\n  Lead:\n    fields: [LastName, Email]\n"


class Shell:
    """A folder and an environment with nothing in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "crm_pipeline.cli.main", *arguments],
            cwd=self.folder,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def refuses(self, code: int, *arguments: str, **variables: str) -> str:
        """Run a command that must refuse, and return what it says."""
        done = self(*arguments, **variables)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def with_org(shell: Shell, database_url: str) -> Iterator[Shell]:
    org = SandboxOrg()
    seed_org(org, records=100)
    with running(org) as served:
        shell.variables |= {
            "SALESFORCE_LOGIN_URL": served.url,
            "SALESFORCE_CLIENT_ID": served.client_id,
            "SALESFORCE_CLIENT_SECRET": served.client_secret,
            "CRM_PIPELINE_DATABASE_URL": database_url,
        }
        (shell.folder / "crm_sync.yaml").write_text(SETTINGS)
        yield shell
    org.close()


def nobody_listens() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    "command", [("status",), ("check",), ("up",), ("sync", "full"), ("sync", "differential")]
)
def test_without_a_settings_file_every_command_says_how_to_get_one(
    shell: Shell, command: tuple[str, ...]
) -> None:
    assert shell.refuses(2, *command) == (
        "crm_sync.yaml: there is no such file; run `crm-pipeline init` to write one, or set "
        "CRM_PIPELINE_CONFIG to where it is."
    )


def test_a_wrong_settings_file_is_refused_with_its_line(shell: Shell) -> None:
    (shell.folder / "crm_sync.yaml").write_text(SETTINGS + "syncs_enable: true\n")
    said = shell.refuses(2, "status")
    assert said == (
        "crm_sync.yaml:5: `syncs_enable`: there is no such setting; did you mean `syncs_enabled`?"
    )


def test_a_missing_login_is_refused_before_anything_starts(shell: Shell) -> None:
    (shell.folder / "crm_sync.yaml").write_text(SETTINGS)
    assert "SALESFORCE_CLIENT_ID" in shell.refuses(2, "sync", "full")
    assert not (shell.folder / ".crm_pipeline").exists()


def test_an_unknown_object_is_refused_with_the_nearest(with_org: Shell) -> None:
    assert with_org.refuses(2, "sync", "full", "--objects", "Leed") == (
        "There is no object Leed in the settings file; did you mean Lead?"
    )
    assert with_org.refuses(2, "sync", "record", "Leed", "1").startswith("There is no object Leed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ful",), "No such command 'ful'"),
        (("sync", "ful"), "No such command 'ful'"),
        (("status", "--jason"), "No such option: --jason"),
        (("up", "--port", "x"), "Invalid value for '--port'"),
        (("sync", "record", "Lead"), "Missing argument 'ID'"),
    ],
)
def test_a_mistyped_command_line_is_a_sentence(
    shell: Shell, arguments: tuple[str, ...], said: str
) -> None:
    sentence = shell.refuses(2, *arguments)
    assert said in sentence
    assert "--help" in sentence


def test_events_are_refused_loaded_and_shown_in_sentences(with_org: Shell) -> None:
    assert "set events.folder" in with_org.refuses(2, "events", "load")
    assert "There is no file nowhere.csv" in with_org.refuses(2, "events", "load", "nowhere.csv")
    (with_org.folder / "notes.txt").write_text("hello")
    assert "must end in .csv" in with_org.refuses(2, "events", "load", "notes.txt")
    assert "Choose one of" in with_org.refuses(2, "events", "rejected", "--retry", "--drop")
    (with_org.folder / "broken.json").write_text("{")
    assert "broken.json: It is broken JSON" in with_org.refuses(1, "events", "load", "broken.json")
    head = "event_id,occurred_at,kind\n"
    file = with_org.folder / "a.csv"
    file.write_text(head + "e1,2026-03-02T12:00:00Z,page_visited\ne2,soon,page_visited\n")
    for loaded in (1, 0):
        done = with_org("events", "load", "a.csv", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["loaded"], found["rejected"]) == (loaded, 1)
    shown = with_org("events", "rejected", "a.csv", "--json")
    [row] = json.loads(shown.stdout)["rows"]
    assert (row["row_number"], row["column"]) == (3, "occurred_at")
    assert "soon" in with_org("events", "rejected").stdout
    assert "2 files count as new" in with_org("events", "rejected", "--retry").stderr
    assert "1 rejected rows are gone" in with_org("events", "rejected", "--drop").stderr
    file.write_text(head + "e2,2026-03-02T12:00:00Z,page_visited\n")
    with_org.variables["CRM_PIPELINE_CONFIG"] = "off.yaml"
    (with_org.folder / "off.yaml").write_text(SETTINGS + "syncs_enabled: false\n")
    assert "Syncs are disabled" in with_org.refuses(1, "events", "load", "a.csv")


def test_the_folder_of_events_may_be_a_folder_or_an_allowed_store(shell: Shell) -> None:
    for folder, said in (
        ("ftp://somewhere", "`ftp://` is not allowed"),
        ("file:///etc", "`file://` is not allowed"),
        ("simplecache::s3://bucket", "`simplecache::s3://` is not allowed"),
        ("s3://key:secret@bucket/x", "must not carry a key"),
        ("", "is empty"),
    ):
        (shell.folder / "crm_sync.yaml").write_text(f'{SETTINGS}events:\n  folder: "{folder}"\n')
        refused = shell.refuses(2, "status")
        assert said in refused
        assert "secret" not in refused


def test_up_refuses_to_be_reached_by_others(with_org: Shell) -> None:
    assert "--allow-remote" in with_org.refuses(2, "up", "--host", "0.0.0.0")  # noqa: S104


def test_status_works_before_there_is_a_database(shell: Shell) -> None:
    (shell.folder / "crm_sync.yaml").write_text(SETTINGS)
    done = shell("status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["missing"] == "There is no database yet; `crm-pipeline sync full` creates it."
    assert [row["status"] for row in found["objects"]] == ["never fully synced"]
    assert not (shell.folder / ".crm_pipeline").exists()


def test_status_works_before_the_first_migration(with_org: Shell, empty_database_url: str) -> None:
    done = with_org("status", CRM_PIPELINE_DATABASE_URL=empty_database_url)
    assert done.returncode == 0, done.stderr
    assert "The database holds nothing yet" in done.stdout


def test_status_says_that_the_database_does_not_answer(with_org: Shell) -> None:
    url = nobody_listens().replace("http", "postgresql") + "/none"
    done = with_org("status", CRM_PIPELINE_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert "The warehouse does not answer" in done.stdout


def test_init_writes_a_file_that_check_finds_ready(with_org: Shell) -> None:
    assert "pass --force" in with_org.refuses(2, "init")
    written = with_org("init", "--force", "--objects", "Lead,Event_Registration__c")
    assert written.returncode == 0, written.stderr
    assert "Wrote crm_sync.yaml: 2 objects" in written.stderr
    checked = with_org("check", "--json")
    assert checked.returncode == 0, checked.stdout
    found = json.loads(checked.stdout)
    fine = {f["subject"] for f in found["findings"] if f["severity"] == "fine"}
    assert found["is_ready"]
    assert fine >= {"CRM", "Lead", "API budget"}
    assert not [f for f in found["findings"] if f["severity"] == "problem"]


def test_init_refuses_an_object_that_the_org_does_not_have(with_org: Shell) -> None:
    said = with_org.refuses(2, "init", "--force", "--objects", "Leed")
    assert said.endswith("There is no object Leed in the org; did you mean Lead?")


def test_check_names_every_problem_at_once_with_a_remedy(with_org: Shell) -> None:
    (with_org.folder / "crm_sync.yaml").write_text(
        "version: 1\nobjects:\n"
        "  Lead:\n    filter: \"Sttus = 'Open'\"\n    fields: [LastName, Emial]\n"
        "  Contact:\n    fields: [LastName, Account.Nme]\n"
        "  Acount:\n    fields: [Name]\n"
    )
    url = nobody_listens().replace("http", "postgresql") + "/none"
    done = with_org("check", "--json", CRM_PIPELINE_DATABASE_URL=url)
    assert done.returncode == 2
    problems = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "problem"]
    told = {f["subject"]: f["sentence"] + f["remedy"] for f in problems}
    assert set(told) == {"warehouse", "Lead", "Contact", "Acount"}
    assert "`Emial` (did you mean `Email`?)" in told["Lead"]
    assert "`Sttus`" in told["Lead"]
    assert "Account.Nme" in told["Contact"]
    assert "did you mean Account?" in told["Acount"]


def test_check_names_a_column_whose_type_clashes(with_org: Shell, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS salesforce")
        connection.execute(
            "CREATE TABLE salesforce.lead (id text, numberofemployees date, _synced_at timestamptz)"
        )
    (with_org.folder / "crm_sync.yaml").write_text(SETTINGS.replace("Email", "NumberOfEmployees"))
    done = with_org("check")
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    assert "salesforce.lead.numberofemployees holds date" in said
    assert "numberofemployees__date" in re.sub(r"\s", "", done.stdout)


def test_wrong_credentials_are_found_without_showing_them(with_org: Shell) -> None:
    done = with_org("check", SALESFORCE_CLIENT_SECRET="do-not-print-me")
    assert done.returncode == 2
    assert "SALESFORCE_CLIENT_SECRET" in done.stdout
    assert "do-not-print-me" not in done.stdout + done.stderr
    assert "Salesforce refuses the login" in with_org.refuses(
        2, "init", "--force", SALESFORCE_CLIENT_SECRET="wrong"
    )


def test_a_sync_with_wrong_credentials_begins_no_run(with_org: Shell) -> None:
    said = with_org.refuses(2, "sync", "full", SALESFORCE_CLIENT_SECRET="wrong")
    assert "Salesforce refuses the login" in said
    said = with_org.refuses(1, "sync", "full", SALESFORCE_LOGIN_URL=nobody_listens())
    assert "cannot be reached" in said


def test_an_org_that_is_down_is_a_failure_and_not_a_mistake(with_org: Shell) -> None:
    said = with_org.refuses(1, "init", "--force", SALESFORCE_LOGIN_URL=nobody_listens())
    assert "cannot be reached" in said


def test_env_prints_what_dagster_needs(with_org: Shell) -> None:
    done = with_org("env")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("export ") for line in lines)
    assert f"export DAGSTER_HOME={with_org.folder}/.crm_pipeline/dagster" in lines
    assert (with_org.folder / ".crm_pipeline" / "dagster" / "dagster.yaml").exists()
