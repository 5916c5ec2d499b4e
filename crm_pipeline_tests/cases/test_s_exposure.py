"""S10, S12-S14, S16: who can reach us, what we could do if stolen, and what we show and load."""

import importlib.metadata
import io
import json
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from crm_pipeline.cli import console, main
from crm_pipeline.cli.services import require_loopback
from crm_pipeline.config.names import printable
from crm_pipeline.defs.metadata import preview, table_metadata
from crm_pipeline.errors import PermanentError, UsageError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sandbox.salesforce.schema import (
    FieldDefinition,
    PicklistValue,
)
from crm_pipeline_tests.house import House

ROOT = Path(__file__).parents[2]
HOSTILE_NAMES = (
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "a|b|c",
    "`code`",
    "<img src=x onerror=alert(1)>",
    "two\nlines",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "carriage\rreturn",
    "\u202egnp.exe",
)
OBJECTS: dict[str, Any] = {"Lead": {"fields": ["LastName", "Email", "Status", "Nasty__c"]}}


@pytest.fixture
def org() -> Iterator[SandboxOrg]:
    org = SandboxOrg(name="Acme\x1b[2J\nWARNING All is well")
    seed_org(org, records=40)
    org.add_field(
        "Lead",
        FieldDefinition(
            "Nasty__c",
            " ".join(HOSTILE_NAMES),
            "picklist",
            length=255,
            picklist_values=tuple(PicklistValue(name, name) for name in HOSTILE_NAMES),
        ),
    )
    yield org
    org.close()


@pytest.fixture
def house(
    org: SandboxOrg, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    with running(org) as served:
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(
            version=1, objects=OBJECTS, marketing={"enabled": False}, reference_data=False
        )
        yield made


# S10


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "8.8.8.8", "::ffff:8.8.8.8"])  # noqa: S104
def test_s10_the_ui_listens_beyond_this_machine_only_when_told_so(host: str) -> None:
    with pytest.raises(UsageError, match="--allow-remote"):
        require_loopback(host, allow_remote=False)
    assert require_loopback(host, allow_remote=True)
    assert require_loopback("localhost", allow_remote=False) == "127.0.0.1"


def test_s10_a_second_server_that_only_reads_is_documented_and_refuses_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/how-to/dagster.md").read_text()
    assert "dagster-webserver -w workspace.yaml --read-only" in page
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    script = (
        "import json, sys\n"
        "from dagster._core.workspace.context import WorkspaceProcessContext\n"
        "from dagster._core.workspace.load_target import EmptyWorkspaceTarget\n"
        "from dagster import DagsterInstance\n"
        "from dagster_webserver.webserver import DagsterWebserver\n"
        "from starlette.testclient import TestClient\n"
        "with DagsterInstance.local_temp('.') as instance, WorkspaceProcessContext(\n"
        "    instance, EmptyWorkspaceTarget(), read_only=True) as context:\n"
        "    client = TestClient(DagsterWebserver(context).create_asgi_app())\n"
        "    asked = {'query': 'mutation {deletePipelineRun(runId: \"x\") {__typename}}'}\n"
        "    print(client.post('/graphql', json=asked).text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "UnauthorizedError" in done.stdout or "PermissionError" in done.stdout, done.stderr


# S12


def grant(org: SandboxOrg, *permissions: str) -> None:
    """Give our user one more permission set with these permissions, and one without any."""
    for label, granted in (("More", permissions), ("None", ())):
        values = {f"Permissions{name}": True for name in granted}
        one = org.create("PermissionSet", {"Name": label, "Label": label, **values})
        org.create("PermissionSetAssignment", {"AssigneeId": org.user_id, "PermissionSetId": one})


def findings(house: House, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    code = main.run(["check", "--json"])
    said = capsys.readouterr().out
    assert code == 0, said
    return list(json.loads(said)["findings"])


def test_s12_check_lists_what_the_user_may_do_beyond_its_needs(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    grant(house.org, "ModifyAllData", "AuthorApex")
    said = {one["subject"]: one for one in findings(house, capsys) if one["severity"] == "notice"}
    assert "may `create`, `edit` and `delete` its records" in said["Lead"]["sentence"]
    assert "has `Modify All Data` and `Author Apex`" in said["permissions"]["sentence"]
    assert all(said[name]["remedy"] for name in ("Lead", "permissions"))


def test_s12_a_user_with_few_rights_is_left_in_peace(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    grant(house.org)
    lead = house.org.catalogue.object("Lead")
    for right in ("createable", "updateable", "deletable"):
        object.__setattr__(lead, right, False)
    said = [one["sentence"] for one in findings(house, capsys)]
    assert not any("no sync needs that" in one for one in said)


def test_s12_the_page_names_the_permissions_that_a_user_needs() -> None:
    page = (ROOT / "docs/how-to/own-org.md").read_text()
    for named in ("API Enabled", "View Setup and Configuration", "Read and View All"):
        assert named in page
    assert "Do not give it Edit, Delete, Modify All Data" in page


# S13


def test_s13_names_and_options_of_the_org_are_no_markup_in_dagster(house: House) -> None:
    for name in HOSTILE_NAMES:
        house.org.create("Lead", {"LastName": name, "Company": name, "Nasty__c": name})
    outcome = house.full()["Lead"]
    with house.engine() as engine:
        engine.sync_object("Lead", mode=SyncMode.FULL, run_id="again")
        shown = table_metadata(engine, "Lead", outcome)
    columns = shown["dagster/column_schema"].columns
    [nasty] = [column.description for column in columns if column.name == "nasty__c"]
    cells = [str(v) for record in shown["preview"].records for v in record.data.values()]
    assert any("alert" in cell for cell in (*cells, nasty))
    for text in (nasty, *cells):
        assert not re.search(r"[<>\[\]`|]", text), text
        assert text.isprintable()


def test_s13_a_table_of_the_preview_keeps_its_plain_values() -> None:
    shown = preview([{"id": "00Q", "count": 3, "rate": 1.5, "is_open": True, "gone": None}])
    assert shown == dg.MetadataValue.table(
        [dg.TableRecord({"id": "00Q", "count": 3, "rate": 1.5, "is_open": True, "gone": None})]
    )


def test_s13_formulas_of_spreadsheets_stay_values_and_no_file_for_one_is_written(
    house: House,
) -> None:
    formulas = ("=cmd|' /C calc'!A0", "+1+1", "-1", "@SUM(A1)", "\t=1", "=1\n=2")
    for text in formulas:
        house.org.create("Lead", {"LastName": text.strip() or text, "Company": "Acme"})
    house.full()
    house.assert_in_step("Lead")
    written = {
        file.name
        for file in (ROOT / "crm_pipeline").rglob("*.py")
        if re.search("csv.writer|DictWriter|to_csv|to_excel", file.read_text())
        and "sandbox" not in file.parts
    }
    known = {"json_rows.py", "reference.py", "job_files.py"}
    assert written == known, "our only CSV is what COPY and the CRM's jobs read"


# S14


def test_s14_nothing_that_an_org_says_can_forge_a_line_or_move_the_cursor(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(["check"])
    main.run(["check", "--json"])
    main.run(["status"])
    said = capsys.readouterr()
    assert "Acme" in said.out
    for text in (said.out, said.err):
        assert "\x1b[2J" not in text
        assert not re.search(r"^ *WARNING All is well", text, re.MULTILINE)


def test_s14_error_texts_and_log_records_are_shown_without_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        logging.getLogger("crm_pipeline.test").warning("named %s", "\x1b[31m\nERROR forged")
        raise PermanentError("about \x1b[31mred\rand\x07 more\nA second sentence.")

    monkeypatch.setattr(main, "app", fail)
    monkeypatch.setattr(console, "stderr", lambda: Console(file=sys.stderr, width=200))
    console.configure_logging(verbose=True)
    assert main.run(["--verbose"]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\r" not in said
    assert "\x07" not in said
    assert not re.search(r"^ERROR forged", said, re.MULTILINE)
    assert "A second sentence." in said


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_s14_a_cell_of_a_table_cannot_obey(name: str) -> None:
    drawn = io.StringIO()
    shown = console.table_of([{"name": name}], {"name": "Name"})
    Console(file=drawn, width=200).print(shown)
    assert "\x1b" not in drawn.getvalue()
    assert printable(name.split("\n", maxsplit=1)[0]) in drawn.getvalue()


# S16


def test_s16_importing_every_module_opens_no_connection() -> None:
    script = (
        "import importlib, pkgutil, sys\n"
        "watched = ('socket.connect', 'socket.getaddrinfo', 'urllib.Request')\n"
        "def forbid(event, arguments):\n"
        "    if event in watched:\n"
        "        raise SystemExit(f'{event} while importing: {arguments}')\n"
        "sys.addaudithook(forbid)\n"
        "import crm_pipeline\n"
        "names = [m.name for m in pkgutil.walk_packages(crm_pipeline.__path__, 'crm_pipeline.')]\n"
        "for name in names:\n"
        "    if not name.endswith(('__main__', '.migrations.env')):\n"
        "        importlib.import_module(name)\n"
        "print(len(names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


def test_s16_what_is_installed_is_what_the_lock_file_names() -> None:
    locked: dict[str, set[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        locked.setdefault(package["name"], set()).add(package["version"])
    installed = {
        re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found.version
        for found in importlib.metadata.distributions()
    }
    differing = {
        name: version
        for name, version in installed.items()
        if name in locked and version not in locked[name]
    }
    assert differing == {}
    assert len(installed.keys() & locked.keys()) > 50


def test_s16_what_continuous_integration_runs_installs_by_hash_only() -> None:
    setup = (ROOT / "scripts/setup.sh").read_text()
    assert "--require-hashes" in setup
    assert "sync --frozen" in setup
