"""What is thrown away: runs of Dagster, rows of the ledger and former values of records.

Dagster prunes ticks by itself and runs never; at a differential every five minutes that is 288 runs
a day with their events. Belongs here: the daily job. Does not belong here: tables of the CRM, which
are never pruned, and what an engine sweeps as it goes (staging, Bulk jobs).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance

from crm_pipeline.defs.failures import told_as_failure
from crm_pipeline.defs.names import HOUSEKEEPING
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.warehouse.actions import prune_actions
from crm_pipeline.warehouse.history import prune_history
from crm_pipeline.warehouse.retention import prune_ledger, prune_outbox

_BATCH = 100
_MOST_AT_ONCE = 5_000
"""Runs deleted in a day at most: an old installation catches up in days, not in one long run."""
_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def build_housekeeping() -> dg.Definitions:
    """The job and its daily schedule, which the off switch does not stop: nothing is synced."""
    job = _housekeeping_job()
    schedule = dg.ScheduleDefinition(
        name=f"{HOUSEKEEPING}_schedule",
        job=job,
        cron_schedule="50 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Launches housekeeping once a day.",
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])


def _housekeeping_job() -> dg.JobDefinition:
    @dg.op(description="Deletes finished runs that are older than `retention.runs_days`.")
    def prune_old_runs(context: dg.OpExecutionContext, crm: CrmResource) -> None:
        before = datetime.now(UTC) - timedelta(days=crm.settings().retention.runs_days)
        deleted = prune_runs(context.instance, before)
        context.log.info("%d runs from before %s UTC deleted.", deleted, f"{before:%Y-%m-%d %H:%M}")

    @dg.op(description="Deletes rows of the ledger that are older than `retention.ledger_days`.")
    def prune_old_ledger_rows(context: dg.OpExecutionContext, crm: CrmResource) -> None:
        with told_as_failure(context):
            days = crm.settings().retention.ledger_days
            deleted = prune_ledger(crm.warehouse(), days=days)
            # Actions tell by their write-backs how they ended, so they go first.
            actions = prune_actions(crm.warehouse(), days=days)
            ended = prune_outbox(crm.warehouse(), days=days)
        context.log.info(
            "%d rows of the ledger, %d ended write-backs, %d actions deleted.",
            deleted,
            ended,
            actions,
        )

    @dg.op(description="Deletes former values that are older than `retention.history_days`.")
    def prune_old_versions(context: dg.OpExecutionContext, crm: CrmResource) -> None:
        with told_as_failure(context):
            deleted = prune_history(crm.warehouse(), days=crm.settings().retention.history_days)
        context.log.info("%d versions of records deleted.", deleted)

    @dg.job(
        name=HOUSEKEEPING,
        description=(
            "Deletes runs, events, logs, ledger rows and former versions of records that are older "
            "than the settings say. Tables of the CRM and watermarks are not touched, and the "
            "newest run of every job and the newest row of every kind of sync stay."
        ),
        executor_def=dg.in_process_executor,
    )
    def housekeeping() -> None:
        prune_old_runs()
        prune_old_ledger_rows()
        prune_old_versions()

    return housekeeping


def prune_runs(instance: DagsterInstance, before: datetime) -> int:
    """Delete finished runs that were created before an instant, with events and captured output.

    The newest run of every job stays, whatever its age: the UI shows by it how the job went last.

    Returns:
        How many.
    """
    deleted = 0
    old = dg.RunsFilter(statuses=_FINISHED, created_before=before)
    while deleted < _MOST_AT_ONCE:
        runs = [r.dagster_run for r in instance.get_run_records(old, limit=_BATCH, ascending=True)]
        doomed = [run for run in runs if not _is_newest_of_its_job(instance, run)]
        for run in doomed:
            instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            instance.delete_run(run.run_id)
        deleted += len(doomed)
        if not doomed:
            break
    return deleted


def _is_newest_of_its_job(instance: DagsterInstance, run: dg.DagsterRun) -> bool:
    newest = instance.get_runs(dg.RunsFilter(job_name=run.job_name), limit=1)
    return bool(newest) and newest[0].run_id == run.run_id
