"""Runs Dagster's jobs in this process, on record like runs from the UI and the schedule.

Importing this module imports Dagster. Belongs here: starting a job and reading how it ended. Does
not belong here: the jobs (defs/), and which home they run in (dagster_home.py).
"""

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg

from crm_pipeline import errors
from crm_pipeline.cli.services import MODULE
from crm_pipeline.errors import CrmPipelineError, Interrupted, PermanentError

COMMAND_TAG = "crm_pipeline/command"
"""Run tag by which a command finds the run that it has started."""
SCHEDULE = "differential_schedule"

RunConfig = Mapping[str, Any]


def job_named(name: str) -> dg.JobDefinition:
    """A job of the installation; Dagster calls this wherever it needs the job again."""
    return definitions().resolve_job_def(name)


@cache
def definitions() -> dg.Definitions:
    """The installation's definitions; loaded once, for Dagster asks for a job many times."""
    loaded = importlib.import_module(MODULE)
    given: object = loaded.defs
    found = given() if callable(given) and not isinstance(given, dg.Definitions) else given
    if isinstance(found, dg.Definitions):
        return found
    raise PermanentError(f"{MODULE} holds no Dagster definitions; is the installation damaged?")


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a run ended.

    Attributes:
        failures: of steps, as errors of our own tree; each sentence once.
    """

    run_id: str
    is_success: bool
    failures: tuple[CrmPipelineError, ...]


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of the home that this process has entered."""
    with dg.DagsterInstance.get() as instance:
        yield instance


def execute(
    name: str,
    instance: dg.DagsterInstance,
    *,
    command_id: str,
    run_config: RunConfig | None = None,
    tags: Mapping[str, str] | None = None,
) -> JobEnd:
    """Run a job to its end in this process.

    Args:
        name: of the job.
        instance: on whose record.
        command_id: value of COMMAND_TAG, for whoever follows the run.
        run_config: as on the UI's launchpad.
        tags: added to the run.
    """
    with warnings.catch_warnings(), signals_kept():
        warnings.simplefilter("ignore")
        result = dg.execute_job(
            dg.build_reconstructable_job(__name__, job_named.__name__, (name,)),
            instance=instance,
            run_config=dict(run_config or {}),
            tags={**(tags or {}), COMMAND_TAG: command_id},
            raise_on_error=False,
        )
    return JobEnd(result.run_id, result.success, failures_of(result.all_events))


@contextmanager
def signals_kept() -> Iterator[None]:
    """Give SIGTERM its own handler back: Dagster leaves it that of SIGINT.

    In the background a shell lets SIGINT be ignored, and then nothing would stop us any more.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def new_command_id() -> str:
    """A value for COMMAND_TAG."""
    return uuid4().hex


def find_run_id(instance: dg.DagsterInstance, command_id: str) -> str | None:
    """The run that a command has started; None while it has not."""
    found = instance.get_runs(dg.RunsFilter(tags={COMMAND_TAG: command_id}), limit=1)
    return found[0].run_id if found else None


def recorded_failures(instance: dg.DagsterInstance, run_id: str) -> tuple[CrmPipelineError, ...]:
    """What the failed steps of a run said that another process has executed."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return failures_of([entry.get_dagster_event() for entry in entries])


def failures_of(events: Sequence[dg.DagsterEvent]) -> tuple[CrmPipelineError, ...]:
    """What the failed steps said, in our own tree of errors."""
    found: dict[str, CrmPipelineError] = {}
    for event in events:
        if not event.is_step_failure:
            continue
        facts = event.step_failure_data.user_failure_data
        if facts is not None and facts.description:
            verdict = facts.metadata.get("verdict")
            name = str(verdict.value) if verdict is not None else ""
            found.setdefault(facts.description, _verdict(name, facts.description))
        elif event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            sentence = f"{event.step_key}: {error.message.strip()}"
            found.setdefault(sentence, PermanentError(sentence))
    return tuple(found.values())


def _verdict(name: str, sentence: str) -> CrmPipelineError:
    """An error with the branch of the tree that decides the exit code."""
    raised = getattr(errors, name, PermanentError)
    for branch in (errors.UsageError, errors.TransientError, errors.Interrupted):
        if issubclass(raised, branch):
            return branch(sentence)
    return PermanentError(sentence)


def scheduled_request(
    instance: dg.DagsterInstance, interval_minutes: int
) -> tuple[RunConfig, dict[str, str]]:
    """What the schedule would launch now: run config and tags.

    Raises:
        Interrupted: it would skip; the sentence is its reason.
    """
    loaded = definitions()
    repository = loaded.get_repository_def()
    schedule = repository.get_schedule_def(SCHEDULE)
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=_last_tick(datetime.now(UTC), interval_minutes),
        repository_def=repository,
        resources=loaded.resources,
    ) as context:
        tick = schedule.evaluate_tick(context)
    for request in tick.run_requests or ():
        partition = {"dagster/partition": request.partition_key} if request.partition_key else {}
        return request.run_config or {}, {**request.tags, **partition}
    raise Interrupted(tick.skip_message or "The schedule has nothing to do now.")


def _last_tick(now: datetime, interval_minutes: int) -> datetime:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    interval = timedelta(minutes=interval_minutes)
    return midnight + interval * ((now - midnight) // interval)


@contextmanager
def noise_into(log: Path) -> Iterator[None]:
    """Send what this process and its children write to the standard streams into a file.

    Dagster and dbt write log records, warnings and captured output there; a progress bar must be
    drawn on a console that was opened on a copy of the stream before.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = {number: os.dup(number) for number in (1, 2)}
    with log.open("ab") as target:
        sys.stdout.flush()
        sys.stderr.flush()
        for number in kept:
            os.dup2(target.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
