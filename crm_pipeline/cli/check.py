"""`crm-pipeline check`: preflight as a table.

Belongs here: showing findings and choosing the exit code. Does not belong here: what is looked at
(sync/preflight.py).
"""

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from crm_pipeline.cli.console import print_json, stderr, stdout, table_of
from crm_pipeline.config.environment import read_environment
from crm_pipeline.config.load import load_settings
from crm_pipeline.crm.registry import make_connector
from crm_pipeline.errors import UsageError
from crm_pipeline.sync.findings import Finding, Severity
from crm_pipeline.sync.preflight import run_preflight
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

_MARKS = {Severity.FINE: "ok", Severity.NOTICE: "note", Severity.PROBLEM: "PROBLEM"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", epilog="Example: crm-pipeline check --json")(check)


def check(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
) -> None:
    """Find everything that would stop a sync, before the first row moves.

    Logs in, reads the org's describe of every configured object, and looks at the warehouse. Names
    missing permissions, unknown fields, type clashes and filter problems, each with a remedy.
    Exit code 0 when syncs can run, 2 when something must be mended first.
    """
    findings = _findings()
    problems = Counter(f.severity for f in findings)[Severity.PROBLEM]
    if as_json:
        print_json({"is_ready": not problems, "findings": [asdict(f) for f in findings]})
    else:
        _show(findings)
    if problems:
        noun = "problem stands" if problems == 1 else "problems stand"
        raise UsageError(f"{problems} {noun} in the way of a sync; mend what the table names.")
    stderr().print("Ready. Next: crm-pipeline sync full")


def _findings() -> tuple[Finding, ...]:
    environment = read_environment()
    settings = load_settings(environment.config_file)
    connector = make_connector(settings.crm, environment)

    def open_warehouse() -> Warehouse:
        given = environment.database_url
        url = (
            given.get_secret_value()
            if given is not None
            else EmbeddedPostgres(environment.home).ensure_running()
        )
        return Warehouse(url, crm_schema=settings.crm.type)

    try:
        return run_preflight(settings, connector, open_warehouse)
    finally:
        connector.close()


def _show(findings: tuple[Finding, ...]) -> None:
    rows = [{**asdict(f), "mark": _MARKS[f.severity], "remedy": f.remedy or " "} for f in findings]
    columns = {"mark": "", "subject": "What", "sentence": "Found", "remedy": "What to do"}
    stdout().print(table_of(rows, columns), soft_wrap=False)
