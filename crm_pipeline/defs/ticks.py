"""What every tick asks before it launches a run.

Belongs here: the one decision that the schedules and sensors share, and the facts under it. Does
not belong here: schedules and sensors themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.names import DIFFERENTIAL_SYNC, FULL_SYNC
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.lease import LeaseHolder, running_syncs
from crm_pipeline.warehouse.ledger import read_status

PAUSE_AFTER_FAILURE = timedelta(minutes=5)
"""Before a job that writes to the CRM is launched again: most likely it would fail again."""
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_SWITCHED_OFF = "Syncs are disabled (`syncs_enabled: false` in the settings file)."
_OBJECT_MODES = (SyncMode.FULL, SyncMode.DIFFERENTIAL, SyncMode.RECONCILE, SyncMode.REFRESH)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is going on.

    Attributes:
        job: whose tick asks.
        own_run: an unfinished run of that job.
        leases: live leases on CRM objects, whoever holds them: Dagster, the CLI, another
            deployment.
        synced_objects: objects that have a watermark.
    """

    job: str
    full_run: dg.DagsterRun | None
    own_run: dg.DagsterRun | None
    differential_run: dg.DagsterRun | None
    leases: tuple[LeaseHolder, ...]
    synced_objects: frozenset[str]


def reason_to_skip(standing: Standing, objects: Iterable[str]) -> str | None:
    """Why no sync may start now; None when nothing stands in its way.

    Daily jobs wait in the queue behind a differential of this Dagster: where differentials take
    longer than their interval there is always one, and nothing else would ever start.
    """
    queued_behind = _owner(standing.differential_run)
    if standing.full_run is not None:
        return f"A full sync is {_state(standing.full_run)}; {_WAITS}"
    for lease in standing.leases:
        if lease.mode in _OBJECT_MODES and lease.owner != queued_behind:
            waits = _WAITS if lease.mode is SyncMode.FULL else "the next tick reads what is left."
            return f"A {lease.mode} sync is at work on {lease.name} (run {lease.owner}); {waits}"
    if standing.own_run is not None:
        return (
            f"The {standing.job} before is still {_state(standing.own_run)}; the next tick reads "
            "what is left."
        )
    if not standing.synced_objects.intersection(objects):
        return (
            "No object was ever fully synced, so there is nothing to add changes to: launch "
            "full_sync first."
        )
    return None


def _owner(run: dg.DagsterRun | None) -> str | None:
    """The owner of a run's leases; see `engine_run_id`."""
    return None if run is None else run.root_run_id or run.run_id


_WAITS = "when it is over, one differential reads what changed meanwhile."


def look_around(
    crm: CrmResource, instance: dg.DagsterInstance, settings: Settings, job: str = DIFFERENTIAL_SYNC
) -> tuple[Standing | None, str | None]:
    """How things stand, and why a job may not start; without a standing we could not look."""
    if off := switched_off(crm):
        return None, off
    try:
        warehouse = crm.warehouse()
        try:
            leases, rows = running_syncs(warehouse), read_status(warehouse)
        except psycopg.errors.UndefinedTable:
            leases, rows = (), []
    except (CrmPipelineError, psycopg.Error) as error:
        return None, str(error)
    synced = frozenset(str(row["object_name"]) for row in rows if row["synced_through"])
    standing = Standing(
        job=job,
        full_run=unfinished_run(instance, FULL_SYNC),
        own_run=unfinished_run(instance, job),
        differential_run=unfinished_run(instance, DIFFERENTIAL_SYNC),
        leases=leases,
        synced_objects=synced,
    )
    return standing, reason_to_skip(standing, settings.enabled_objects)


def switched_off(crm: CrmResource) -> str | None:
    """Why nothing may move at all; None when syncs are enabled."""
    try:
        enabled = crm.are_syncs_enabled()
    except CrmPipelineError as error:
        return str(error)
    return None if enabled else _SWITCHED_OFF


def reason_not_to_write(crm: CrmResource, instance: dg.DagsterInstance, job: str) -> str | None:
    """Why a job that writes to the CRM may not start now; None when nothing stands in its way."""
    try:
        settings = crm.settings()
    except CrmPipelineError as error:
        return str(error)
    if not settings.syncs_enabled:
        return _SWITCHED_OFF
    if not settings.write_backs.enabled:
        return "Write-backs are disabled (`write_backs.enabled: false` in the settings file)."
    if run := unfinished_run(instance, job):
        return f"The {job} before is still {_state(run)}; the next tick sees what it leaves."
    return _failed_lately(instance, job)


def _failed_lately(instance: dg.DagsterInstance, job: str) -> str | None:
    latest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    if not latest or latest[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    again = datetime.fromtimestamp(latest[0].end_time or 0, UTC) + PAUSE_AFTER_FAILURE
    if datetime.now(UTC) >= again:
        return None
    run_id = latest[0].dagster_run.run_id
    return f"The last {job} failed (run {run_id}); the next one begins at {again:%H:%M:%S} UTC."


def unfinished_run(instance: dg.DagsterInstance, job: str) -> dg.DagsterRun | None:
    """A run of a job that waits, works or is about to be retried."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
    if runs:
        return runs[0]
    failed = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.FAILURE])
    latest: Sequence[dg.DagsterRun] = instance.get_runs(failed, limit=1)
    return next((run for run in latest if run.is_complete_and_waiting_to_retry), None)


def _state(run: dg.DagsterRun) -> str:
    word = "waiting to be retried" if run.is_finished else run.status.value.lower()
    return f"{word} (run {run.run_id})"
