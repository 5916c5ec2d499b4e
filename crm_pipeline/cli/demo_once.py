"""The demo's one headless round: full sync, edits in the org, one tick of the real schedule.

Importing this module imports Dagster. Belongs here: that round and its proof. Does not belong here:
what both kinds of demo do (demo.py).
"""

from collections.abc import Callable
from functools import partial

from psycopg.rows import dict_row

from crm_pipeline.cli import dagster_runs, outcomes, schedule_tick
from crm_pipeline.cli.console import table_of
from crm_pipeline.cli.dagster_home import prepare_dagster_home
from crm_pipeline.cli.demo import Stage, Story, full_sync, write_past_events
from crm_pipeline.cli.progress import console_on_a_copy
from crm_pipeline.cli.services import dagster_services
from crm_pipeline.cli.supervisor import Supervisor
from crm_pipeline.cli.sync import run_job
from crm_pipeline.errors import PermanentError
from crm_pipeline.warehouse import outbox_desk
from crm_pipeline.warehouse.connection import Warehouse

EDITS = {"updates": 137, "inserts": 40, "deletes": 9, "undeletes": 2}
_PARITY = {
    "object_name": "Object",
    "crm_count": "In the org, COUNT()",
    "table_count": "In the table",
    "verdict": "Verdict",
}
_BALANCE = {
    "origin": "Write-back",
    "object_name": "Object",
    "enqueued": "Wanted",
    "applied": "Applied",
    "superseded": "Superseded",
    "parked": "Parked",
    "pending": "Pending",
}
_HELD = {
    "origin": "Write-back",
    "record_id": "Record",
    "field": "Field",
    "value": "Written",
    "held": "In the org now",
}
_WRITTEN = """
SELECT DISTINCT ON (object_name, field) origin, object_name, record_id, field, value
FROM crm_sync.outbox WHERE state = 'applied' AND operation = 'update'
ORDER BY object_name, field, value_at DESC, write_id DESC
"""


def run_once(supervisor: Supervisor, stage: Stage, story: Story) -> None:
    """Tell the whole story, and fail if any part of it is not true.

    Raises:
        CrmPipelineError: a sync failed, or a table differs from the org.
    """
    installation = stage.installation
    home = prepare_dagster_home(installation.environment)
    services = dagster_services(home, host="127.0.0.1", port=3000)
    supervisor.start(services.code_server)
    full_sync(stage, story)
    _load_events(stage, story)
    _write_back(stage, story)
    story.tell(f"In the org: {', '.join(f'{n} {what}' for what, n in EDITS.items())}.")
    stage.org.edit(**EDITS)
    supervisor.wait_until(services.has_code, what="The code server")
    story.tell("The daemon starts, with the last full hour's tick to make up for.")
    log = installation.environment.home / "logs" / "sync.log"
    with dagster_runs.noise_into(log), dagster_runs.open_instance() as instance:
        tick = schedule_tick.miss_last_tick(
            instance, home.folder / "workspace.yaml", dagster_runs.SCHEDULE
        )
        supervisor.start(services.daemon)
        run_id, is_success = _follow(tick, supervisor)
        failures = dagster_runs.recorded_failures(instance, run_id)
    story.tell(f"differential_schedule ticked and launched run {run_id[:8]} through the queue.")
    report = outcomes.report_of(
        installation.warehouse(),
        run_id,
        "differential_sync",
        is_success=is_success,
        failures=failures,
        expected_objects=tuple(installation.settings.enabled_objects) if is_success else (),
    )
    report.show(story.console)
    report.require_success()
    _prove(stage, story)


def _write_back(stage: Stage, story: Story) -> None:
    """Run the Dagster job write_back here, and ask the org whether it holds what was written."""
    installation = stage.installation
    _run(stage, "write_back")
    warehouse = installation.warehouse()
    balance = outbox_desk.read_balance(warehouse)
    story.tell("Write-backs: the Dagster job write_back found what differs and sent it.")
    story.console.print(table_of(balance, _BALANCE), soft_wrap=False)
    if not any(row["applied"] for row in balance):
        raise PermanentError("The demo wrote nothing to the org.")
    _show_written(stage, story, warehouse)


def _run(stage: Stage, job: str) -> str:
    """Run a Dagster job here that asks nothing; returns the run's id."""
    report = run_job(
        stage.installation,
        job,
        lambda _: ({}, {}),
        console=console_on_a_copy(),
        expected_objects=(),
    )
    report.require_success()
    return report.run_id


def _show_written(stage: Stage, story: Story, warehouse: Warehouse) -> None:
    """A few write-backs, each beside what the org holds now."""
    with warehouse.connect() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        rows = cursor.execute(_WRITTEN).fetchall()
    connector = stage.installation.connector(stage.installation.settings)
    try:
        for row in rows:
            crm_object = connector.describe(row["object_name"])
            record, field = row["record_id"], row["field"]
            held = connector.retrieve(crm_object, [record], [field]).get(record, {}).get(field)
            row["held"] = held
            if not connector.same_value(crm_object, field, row["value"], held):
                raise PermanentError(f"{field} of {record} is not what was written.")
    finally:
        connector.close()
    story.console.print(table_of(rows, _HELD), soft_wrap=False)


def _load_events(stage: Stage, story: Story) -> None:
    """Run the Dagster job load_events here, and tell what it loaded."""
    write_past_events(stage, story)
    installation = stage.installation
    run_id = _run(stage, "load_events")
    with installation.warehouse().connect() as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(loaded), 0), coalesce(sum(rejected), 0),"
            " (SELECT count(*) FROM events.consent_ledger)"
            " FROM events.event_file WHERE run_id = %s",
            [run_id],
        ).fetchone()
    files, loaded, rejected, consent = row or (0, 0, 0, 0)
    story.tell(
        f"Marketing events: the Dagster job load_events loaded {loaded:,} from {files} files and "
        f"rejected {rejected:,} rows; {consent:,} ended consent."
    )
    if rejected or not loaded:
        raise PermanentError("The demo's own marketing events were not all loaded.")


def _follow(tick: schedule_tick.MissedTick, supervisor: Supervisor) -> tuple[str, bool]:
    waits: Callable[..., None] = supervisor.wait_until
    run_id = tick.run_id(partial(waits, what="The schedule's tick"))
    return run_id, tick.await_run(run_id, partial(waits, what="The differential", seconds=900.0))


def _prove(stage: Stage, story: Story) -> None:
    """Hold every table against the org's own count."""
    with stage.installation.engine() as engine:
        parities = [engine.inspector.count_parity(name) for name in engine.settings.enabled_objects]
    rows = [
        {
            "object_name": one.object_name,
            "crm_count": one.crm_count,
            "table_count": one.table_count,
            "verdict": "equal" if one.crm_count == one.table_count else "DIFFERENT",
        }
        for one in parities
    ]
    story.console.print(table_of(rows, _PARITY), soft_wrap=False)
    different = [one.sentence for one in parities if one.crm_count != one.table_count]
    if different:
        raise PermanentError("\n".join(different))
    story.tell("Every table holds as many records as the org.")
