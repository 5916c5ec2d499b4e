"""What is mended by itself: skipped differentials, models left behind, runs that died unseen.

Belongs here: one decision table per sensor, as its docstring. Does not belong here: what no tick
may start (ticks.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import psycopg
from dagster import DagsterInstance, RunRecord

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.marketing_models import changed_rows
from crm_pipeline.defs.names import (
    DIFFERENTIAL_SYNC,
    FULL_SYNC,
    MARKETING,
    MARKETING_STEP,
    RECONCILE,
    REFRESH,
)
from crm_pipeline.defs.partitions import window_key
from crm_pipeline.defs.resources import WORKER_TAG, CrmResource, is_worker_alive
from crm_pipeline.defs.ticks import look_around, switched_off
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.warehouse.lease import running_syncs

QUIET_SECONDS = 30
"""A worker that is gone and was silent for as long as a lease outlives it is dead."""
UNKNOWN_WORKER_QUIET_SECONDS = 900
"""Where we cannot see the worker's machine, silence must last longer before we call it dead."""
_FINISHED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
_LOOKED_AT = 20
_Answer = dg.RunRequest | dg.SkipReason | dg.SensorResult


def build_sensors(settings: Settings) -> dg.Definitions:
    """Every sensor, running from the start."""
    sensors = [_catch_up(settings), _orphans()]
    if settings.marketing.enabled:
        sensors.append(_marketing_left_behind())
    return dg.Definitions(sensors=sensors)


def _catch_up(settings: Settings) -> dg.SensorDefinition:
    interval = settings.differential.interval_minutes * 60

    @dg.sensor(
        name="catch_up_after_full_sync",
        job_name=DIFFERENTIAL_SYNC,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="One differential after a full sync, for the ticks that it held back.",
    )
    def catch_up(context: dg.SensorEvaluationContext, crm: CrmResource) -> _Answer:
        """Exactly one differential for all ticks that a full sync held back.

        | since the last look | answer |
        |---|---|
        | no full sync has ended | skip |
        | one ended (success, failure, cancel), but no tick was due while it waited and ran | skip |
        | a differential was launched after its end | skip: that one reads it all |
        | syncs disabled, another sync at work, warehouse down | skip, and look again |
        | none of these | one run; its key names the full sync, so it is launched once |
        """
        since = float(context.cursor or 0)
        ended = [r for r in _finished(context.instance, FULL_SYNC) if (r.end_time or 0) > since]
        if not ended:
            return dg.SkipReason("No full sync has ended since the last look.")
        newest = max(ended, key=lambda record: record.end_time or 0)
        end = newest.end_time or 0
        if not any(_held_back(record, interval) for record in ended) or _was_launched_after(
            context.instance, end
        ):
            context.update_cursor(str(end))
            return dg.SkipReason("No differential is owed after the full sync.")
        _, reason = look_around(crm, context.instance, settings)
        if reason is not None:
            return dg.SkipReason(f"A differential is owed after the full sync, but: {reason}")
        context.update_cursor(str(end))
        return dg.RunRequest(
            run_key=f"after {newest.dagster_run.run_id}",
            partition_key=window_key(datetime.now(UTC)),
        )

    return catch_up


def _finished(instance: DagsterInstance, job: str) -> Sequence[RunRecord]:
    wanted = dg.RunsFilter(job_name=job, statuses=list(_FINISHED))
    return instance.get_run_records(wanted, limit=_LOOKED_AT)


def _held_back(record: RunRecord, interval: int) -> bool:
    begin = record.create_timestamp.timestamp()
    return spans_tick(begin, record.end_time or begin, interval)


def spans_tick(begin: float, end: float, interval: int) -> bool:
    """Whether a tick was due after one instant and up to another; intervals divide days evenly."""
    return int(begin // interval) < int(end // interval)


def _was_launched_after(instance: DagsterInstance, moment: float) -> bool:
    wanted = dg.RunsFilter(
        job_name=DIFFERENTIAL_SYNC, created_after=datetime.fromtimestamp(moment, UTC)
    )
    return bool(instance.get_run_records(wanted, limit=1))


def _marketing_left_behind() -> dg.SensorDefinition:
    @dg.sensor(
        name="marketing_after_partial_sync",
        job_name=MARKETING,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Rebuilds the models when a sync changed rows but did not get as far as them.",
    )
    def left_behind(context: dg.SensorEvaluationContext, crm: CrmResource) -> _Answer:
        """One failed object, or one that was not chosen, must not leave all models behind.

        Dagster skips the models' step as soon as one table above it failed or was skipped.

        | a sync run that ended since the last look | answer |
        |---|---|
        | none | skip |
        | it will be retried | skip: the retry builds the models |
        | its models' step ran, well or badly | skip |
        | it changed no row | skip |
        | none of these | rebuild, once per run |
        """
        if reason := switched_off(crm):
            return dg.SkipReason(reason)
        since = float(context.cursor or 0)
        jobs = (FULL_SYNC, DIFFERENTIAL_SYNC, RECONCILE, REFRESH)
        records = [r for job in jobs for r in _finished(context.instance, job)]
        ended = [r for r in records if (r.end_time or 0) > since]
        if not ended:
            return dg.SkipReason("No sync has ended since the last look.")
        try:
            owing = [r for r in ended if _owes_models(r, context.instance, crm)]
        except (CrmPipelineError, psycopg.Error) as error:
            return dg.SkipReason(str(error))
        newest = max(ended, key=lambda record: record.end_time or 0)
        context.update_cursor(str(newest.end_time))
        if not owing:
            return dg.SkipReason("The models are up to date with the syncs that have ended.")
        return dg.RunRequest(run_key=f"after {newest.dagster_run.run_id}")

    return left_behind


def _owes_models(record: RunRecord, instance: DagsterInstance, crm: CrmResource) -> bool:
    run = record.dagster_run
    if run.is_complete_and_waiting_to_retry:
        return False
    steps = instance.get_run_step_stats(run.run_id, [MARKETING_STEP])
    if any(step.status and step.status.value in {"SUCCESS", "FAILURE"} for step in steps):
        return False
    return changed_rows(crm, run.root_run_id or run.run_id)


@dataclass(frozen=True, slots=True)
class WorkSeen:
    """What can be seen of a run that says it works.

    Attributes:
        silent_seconds: since its last event, or since it was launched.
        is_worker_alive: None when its machine is not ours, or it never said.
    """

    silent_seconds: float
    holds_lease: bool
    is_worker_alive: bool | None


def why_orphaned(seen: WorkSeen) -> str | None:
    """Why a run counts as dead; None while there is any sign of life."""
    if seen.holds_lease or seen.is_worker_alive or seen.silent_seconds < QUIET_SECONDS:
        return None
    if seen.is_worker_alive is False:
        return "The process that did this run's work is gone, and it holds no lease any more."
    if seen.silent_seconds < UNKNOWN_WORKER_QUIET_SECONDS:
        return None
    return (
        f"Nothing was heard of this run for {seen.silent_seconds / 60:.0f} minutes, and it holds "
        "no lease."
    )


def _orphans() -> dg.SensorDefinition:
    @dg.sensor(
        name="orphaned_runs",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends runs whose machine or process died without a word, so others can start.",
    )
    def orphaned(context: dg.SensorEvaluationContext, crm: CrmResource) -> dg.SkipReason:
        """A crashed machine leaves its run STARTED for ever, and the pool with it.

        | a started run | answer |
        |---|---|
        | holds a live lease, or its process lives | leave it |
        | its process is gone, for 30 seconds | end it as failed; it is retried as its tags say |
        | we cannot see its machine, and it was silent for 15 minutes | the same |
        | the warehouse does not answer, so leases are unknown | leave all |
        """
        try:
            owners = {lease.owner for lease in running_syncs(crm.warehouse())}
        except psycopg.errors.UndefinedTable:
            owners = set()
        except (CrmPipelineError, psycopg.Error) as error:
            return dg.SkipReason(str(error))
        ended = []
        for record in _started(context.instance):
            reason = why_orphaned(_seen(record, owners, context.instance))
            if reason is not None:
                context.instance.report_run_failed(record.dagster_run, message=reason)
                ended.append(record.dagster_run.run_id)
        return dg.SkipReason(f"Ended: {', '.join(ended)}" if ended else "No run is orphaned.")

    return orphaned


def _started(instance: DagsterInstance) -> Sequence[RunRecord]:
    statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    return instance.get_run_records(dg.RunsFilter(statuses=statuses), limit=_LOOKED_AT)


def _worker(run: dg.DagsterRun, instance: DagsterInstance) -> str | None:
    """The process that said it does this run's work; a retry is born with its parent's tags."""
    worker = run.tags.get(WORKER_TAG)
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return None if parent is not None and parent.tags.get(WORKER_TAG) == worker else worker


def _seen(record: RunRecord, owners: set[str], instance: DagsterInstance) -> WorkSeen:
    run = record.dagster_run
    worker = _worker(run, instance)
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    heard = newest[0].timestamp if newest else record.create_timestamp.timestamp()
    return WorkSeen(
        silent_seconds=datetime.now(UTC).timestamp() - heard,
        holds_lease=(run.root_run_id or run.run_id) in owners,
        is_worker_alive=is_worker_alive(worker) if worker else None,
    )
