"""`crm-pipeline status`: where every object stands.

Quick and without side effects worth naming: it asks no CRM, migrates nothing and creates nothing.
The embedded server is started if it has data, because a status that needs another command first is
none.

Belongs here: joining settings, view and schedule. Does not belong here: the view (migrations) and
what is worth an alert (sync/alerts.py).
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import psycopg
import typer

from crm_pipeline.cli.console import print_json, shown, stdout, table_of
from crm_pipeline.config.environment import Environment, read_environment
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.model.clock import SystemClock
from crm_pipeline.sync.alerts import Alert, read_alerts
from crm_pipeline.warehouse import ledger
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

_COLUMNS = {
    "object_name": "Object",
    "status": "Status",
    "synced_through": "Synced through (UTC)",
    "last_mode": "Last sync",
    "last_result": "Result",
    "last_records_read": "Read",
    "last_inserted": "Inserted",
    "last_updated": "Updated",
    "last_deleted": "Deleted",
    "quarantined": "Rejected",
    "last_seconds": "Seconds",
}
_LATEST = """
SELECT max(finished_at) FILTER (WHERE mode = 'differential' AND status = 'committed'),
       coalesce(sum(api_calls) FILTER (WHERE started_at > now() - interval '24 hours'), 0)::bigint
FROM crm_sync.sync_run
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: crm-pipeline status --json")(status)


@dataclass(slots=True)
class Standing:
    """Everything that the command shows.

    Attributes:
        missing: what is not there yet, in a sentence; None when the warehouse answered.
        alerts: what a person should know; also that the warehouse could not be asked.
        api_calls: ours, in the last 24 hours.
    """

    syncs_enabled: bool
    interval_minutes: int
    next_differential_at: datetime
    objects: list[dict[str, object]]
    missing: str | None = None
    alerts: tuple[Alert, ...] = ()
    last_differential_at: datetime | None = None
    api_calls: int = 0


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    fail_on_alert: Annotated[
        bool,
        typer.Option("--fail-on-alert", help="Exit code 1 when something needs a person."),
    ] = False,
) -> None:
    """Show where every object stands: last sync, how far it is complete, what needs a person.

    Objects of the settings that were never synced are listed too. Works before the first sync, and
    says then what is missing. For monitoring: --fail-on-alert.
    """
    environment = read_environment()
    settings = load_settings(environment.config_file)
    standing = read_standing(environment, settings, SystemClock().now())
    if as_json:
        print_json(asdict(standing))
    else:
        _show(standing)
    if fail_on_alert and (standing.alerts or standing.missing):
        raise typer.Exit(1)


def read_standing(environment: Environment, settings: Settings, now: datetime) -> Standing:
    """The status of the installation, as far as its warehouse can tell."""
    standing = Standing(
        syncs_enabled=settings.syncs_enabled,
        interval_minutes=settings.differential.interval_minutes,
        next_differential_at=next_tick(now, settings.differential.interval_minutes),
        objects=[],
    )
    rows: list[dict[str, object]] = []
    does_answer = True
    try:
        warehouse = _warehouse(environment, settings)
        if warehouse is None:
            standing.missing = "There is no database yet; `crm-pipeline sync full` creates it."
        else:
            rows = ledger.read_status(warehouse)
            standing.alerts = read_alerts(warehouse, settings)
            with warehouse.connect(autocommit=True) as connection:
                row = connection.execute(_LATEST).fetchone()
            if row is not None:
                standing.last_differential_at, standing.api_calls = row
    except psycopg.errors.UndefinedTable:
        standing.missing = "The database holds nothing yet; `crm-pipeline sync full` fills it."
    except CrmPipelineError as error:
        standing.missing, does_answer = str(error), False
    standing.objects = _joined(settings, rows, known=does_answer)
    return standing


def next_tick(now: datetime, interval_minutes: int) -> datetime:
    """When the schedule ticks next; intervals divide an hour or a day from midnight UTC on."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    done = (now - midnight) // timedelta(minutes=interval_minutes)
    return midnight + timedelta(minutes=interval_minutes * (done + 1))


def _warehouse(environment: Environment, settings: Settings) -> Warehouse | None:
    if environment.database_url is not None:
        url = environment.database_url.get_secret_value()
    elif (environment.home / "postgres" / "data").exists():
        url = EmbeddedPostgres(environment.home).ensure_running()
    else:
        return None
    return Warehouse(url, crm_schema=settings.crm.type)


def _joined(
    settings: Settings, rows: list[dict[str, object]], *, known: bool
) -> list[dict[str, object]]:
    """The objects of the settings in the file's order, then whatever else the ledger knows."""
    by_name = {str(row["object_name"]): row for row in rows}
    joined: list[dict[str, object]] = []
    for name, chosen in settings.objects.items():
        row = by_name.pop(name, None) or {
            "object_name": name,
            "table_name": chosen.table_name(name),
            "status": "never fully synced" if known else "unknown",
        }
        joined.append({**row, "enabled": chosen.enabled})
    others = by_name.values()
    joined.extend({**row, "enabled": row["last_mode"] == "reference"} for row in others)
    for row in joined:
        if not row["enabled"]:
            row["status"] = "switched off in the settings"
    return joined


def _show(standing: Standing) -> None:
    console = stdout()
    if standing.missing:
        console.print(standing.missing, markup=False)
    if standing.syncs_enabled:
        console.print(
            f"Syncs are enabled: a differential every {standing.interval_minutes} minutes while "
            f"`crm-pipeline up` runs; last {shown(standing.last_differential_at)}, next tick "
            f"{shown(standing.next_differential_at)} (UTC).",
            markup=False,
        )
    else:
        console.print(
            "Syncs are disabled: nothing moves in either direction until the settings file says "
            "`syncs_enabled: true`.",
            markup=False,
        )
    console.print(f"API calls by syncs in the last 24 hours: {standing.api_calls:,}.")
    console.print(table_of(standing.objects, _COLUMNS), soft_wrap=False)
    for alert in standing.alerts:
        console.print(f"ALERT {alert.kind}: {alert.sentence}", markup=False)
    for row in standing.objects:
        if row.get("last_error"):
            console.print(f"{row['object_name']}: {row['last_error']}", markup=False)
