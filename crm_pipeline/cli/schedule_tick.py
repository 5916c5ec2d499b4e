"""A tick of the real schedule now, without waiting for the hour.

The daemon makes up for a tick that it has missed, as after a night in which the machine was off.
So: write down that the schedule was on before the last full hour, then let a daemon start. It
evaluates the schedule in the code server, records the tick and queues the run, exactly as it will
do every hour from then on.

Importing this module imports Dagster. It uses parts of Dagster that are not its public face: no
public call sets the time since when a schedule is on. Belongs here: that trick and awaiting its
effect. Does not belong here: anything that production needs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_representation.external import RemoteSchedule
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickStatus,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from crm_pipeline.cli.services import LOCATION
from crm_pipeline.errors import PermanentError, TransientError

_OVER = (TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE)


@dataclass(frozen=True, slots=True)
class MissedTick:
    """A schedule whose last tick a starting daemon will make up for."""

    instance: dg.DagsterInstance
    origin_id: str
    selector_id: str

    def run_id(self, wait_until: Callable[[Callable[[], bool]], None]) -> str:
        """The run that the tick has launched.

        Args:
            wait_until: waits for a condition while keeping an eye on the daemon.

        Raises:
            PermanentError: it skipped or failed; the sentence is its reason.
        """

        def is_over() -> bool:
            ticks = self.instance.get_ticks(self.origin_id, self.selector_id, limit=1)
            return bool(ticks) and ticks[0].status in _OVER

        wait_until(is_over)
        [tick] = self.instance.get_ticks(self.origin_id, self.selector_id, limit=1)
        if tick.status is TickStatus.SUCCESS and tick.run_ids:
            return str(tick.run_ids[0])
        reason = tick.skip_reason or (tick.error.message if tick.error else "no reason given")
        raise PermanentError(f"The schedule's tick launched nothing: {reason}")

    def await_run(self, run_id: str, wait_until: Callable[[Callable[[], bool]], None]) -> bool:
        """Wait for the end of a run.

        Returns:
            Whether it was a success.
        """

        def is_finished() -> bool:
            run = self.instance.get_run_by_id(run_id)
            return run is not None and run.is_finished

        wait_until(is_finished)
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.is_success


def miss_last_tick(instance: dg.DagsterInstance, workspace: Path, schedule_name: str) -> MissedTick:
    """Write down that the schedule was on before its last due time; no daemon may run yet.

    Args:
        instance: of the installation.
        workspace: names the code server, which must answer.
        schedule_name: of the schedule.
    """
    with WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)])) as process:
        location = process.create_request_context().get_code_location(LOCATION)
        [repository] = location.get_repositories().values()
        schedule = repository.get_schedule(schedule_name)
    due = _last_due(schedule)
    state = InstigatorState(
        schedule.get_remote_origin(),
        InstigatorType.SCHEDULE,
        InstigatorStatus.DECLARED_IN_CODE,
        ScheduleInstigatorData(schedule.cron_schedule, start_timestamp=due - 1),
    )
    if instance.get_instigator_state(schedule.get_remote_origin_id(), schedule.selector_id):
        instance.update_instigator_state(state)
    else:
        instance.add_instigator_state(state)
    return MissedTick(instance, schedule.get_remote_origin_id(), schedule.selector_id)


def _last_due(schedule: RemoteSchedule) -> float:
    """The newest instant at which the schedule should have ticked."""
    now = time.time()
    due = 0.0
    for moment in schedule.execution_time_iterator(now - 86_400):
        if moment.timestamp() > now:
            break
        due = moment.timestamp()
    if not due:
        raise TransientError(f"{schedule.name} was not due in the last 24 hours.")
    return due
