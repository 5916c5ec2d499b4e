"""When syncs start by themselves.

Belongs here: cron lines and what a tick decides. Does not belong here: reasons that several ticks
share (ticks.py); a schedule of the full sync, which only people launch.
"""

from collections.abc import Callable

import dagster as dg
import psycopg

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.crm_objects import object_assets
from crm_pipeline.defs.names import (
    CHECK_MODELS,
    CHECK_TABLES,
    DIFFERENTIAL_SYNC,
    FULL_SYNC,
    MARKETING,
    RECONCILE,
    REFERENCE_DATA,
    REFRESH,
)
from crm_pipeline.defs.partitions import window_key
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.defs.ticks import look_around, switched_off, unfinished_run
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.events.models_state import models_built_at

DIFFERENTIAL_SCHEDULE = "differential_schedule"
_DAILY_REFERENCE = "20 3 * * *"
_DAILY_RECONCILE = "15 4 * * *"
_DAILY_CHECKS = "40 5 * * *"
_HOURLY_MODELS = "40 * * * *"
# Scores age by the day, also of people about whom nothing is new.
_DAILY_MARKETING = "10 0 * * *"
_ONCE_A_DAY = "Launches {job} once a day, unless a full sync is at work."
_ONCE_AN_HOUR = "Launches {job} once an hour, if the models were built since it last ran."
_Answer = dg.RunRequest | dg.SkipReason
_Reason = Callable[[dg.DagsterInstance, CrmResource], str | None]


def build_schedules(settings: Settings) -> dg.Definitions:
    """The differential schedule and the rarer ones, all running from the start."""
    schedules = [
        _differential(settings),
        _whole(settings, RECONCILE, _DAILY_RECONCILE),
        _whole(settings, REFRESH, settings.refresh.cron_schedule),
    ]
    if settings.reference_data:
        schedules.append(_by_the_clock(REFERENCE_DATA, _DAILY_REFERENCE))
    if object_assets(settings):
        schedules.append(_by_the_clock(CHECK_TABLES, _DAILY_CHECKS))
    if settings.marketing.enabled:
        schedules.append(_by_the_clock(MARKETING, _DAILY_MARKETING))
        schedules.append(
            _by_the_clock(CHECK_MODELS, _HOURLY_MODELS, _ONCE_AN_HOUR, _tested_already)
        )
    return dg.Definitions(schedules=schedules)


def _differential(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=DIFFERENTIAL_SCHEDULE,
        job_name=DIFFERENTIAL_SYNC,
        cron_schedule=settings.differential.cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Reads what changed, unless another sync is at work or syncs are disabled.",
    )
    def differential_schedule(context: dg.ScheduleEvaluationContext, crm: CrmResource) -> _Answer:
        """One differential per tick, or a reason.

        | what a tick finds | answer |
        |---|---|
        | syncs disabled, settings unreadable, warehouse down | skip, with the sentence |
        | a full sync queued, running, or about to be retried | skip |
        | any lease on an object, also the CLI's or another deployment's | skip |
        | a differential queued or running | skip: no backlog when runs outlast the interval |
        | no object was ever fully synced | skip: launch full_sync first |
        | none of these | one run for the hour that is open or just ended |

        After days without a daemon only the newest tick is evaluated: one run closes the gap.
        """
        _, reason = look_around(crm, context.instance, settings)
        if reason is not None:
            return dg.SkipReason(reason)
        tick = context.scheduled_execution_time
        return dg.RunRequest(run_key=tick.isoformat(), partition_key=window_key(tick))

    return differential_schedule


def _whole(settings: Settings, job: str, cron_schedule: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Launches {job} for all objects, unless something stands in its way.",
    )
    def whole(context: dg.ScheduleEvaluationContext, crm: CrmResource) -> _Answer:
        """One run per tick, or a reason; the same reasons as a differential's.

        | what a tick finds | answer |
        |---|---|
        | what makes a differential skip, a differential of this Dagster excepted | skip |
        | such a differential | a run that waits in the queue behind it |
        | the job's run before is not over | skip |
        | none of these | one run |
        """
        _, reason = look_around(crm, context.instance, settings, job)
        if reason is not None:
            return dg.SkipReason(reason)
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return whole


def _by_the_clock(
    job: str, cron_schedule: str, description: str = _ONCE_A_DAY, reason: _Reason | None = None
) -> dg.ScheduleDefinition:
    """A job that stays out of the way of a full sync.

    Args:
        job: its name.
        cron_schedule: once a day, for most of them.
        description: of the schedule.
        reason: why this very job need not run now.
    """

    @dg.schedule(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description.format(job=job),
    )
    def tick(context: dg.ScheduleEvaluationContext, crm: CrmResource) -> _Answer:
        """One run; none while syncs are disabled, a full sync works, or one still waits."""
        if off := switched_off(crm):
            return dg.SkipReason(off)
        for other in (FULL_SYNC, job):
            if run := unfinished_run(context.instance, other):
                return dg.SkipReason(f"{other} is not over yet (run {run.run_id}).")
        if reason is not None and (unneeded := reason(context.instance, crm)):
            return dg.SkipReason(unneeded)
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return tick


def _tested_already(instance: dg.DagsterInstance, crm: CrmResource) -> str | None:
    """Why the models need no test: they were not built since the last one."""
    try:
        built_at = models_built_at(crm.warehouse(), crm.settings().marketing.target_schema)
    except (CrmPipelineError, psycopg.Error) as error:
        return str(error)
    tested = instance.get_run_records(dg.RunsFilter(job_name=CHECK_MODELS), limit=1)
    if built_at is None or (tested and tested[0].create_timestamp > built_at):
        return "The models were not built since they were last tested."
    return None
