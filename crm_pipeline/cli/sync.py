"""`crm-pipeline sync`: the Dagster jobs, run in this process and watched from the terminal.

Belongs here: options of the syncs. Does not belong here: the jobs (defs/), how they are run
(dagster_runs.py) and what they report (outcomes.py).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crm_pipeline.cli.console import print_json, stdout
from crm_pipeline.cli.dagster_home import prepare_dagster_home
from crm_pipeline.cli.init import require_known, split_names
from crm_pipeline.config.environment import salesforce_login
from crm_pipeline.config.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from crm_pipeline.cli.outcomes import RunReport
    from crm_pipeline.sync.assembly import Installation

app = typer.Typer(name="sync", help="Run a sync now and watch it.", no_args_is_help=True)
Objects = Annotated[str, typer.Option("--objects", help="Only these objects, separated by commas.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.callback()
def sync() -> None:
    """Run a sync now and watch it; the run is on record in the Dagster UI like any other."""


@app.command(epilog="Example: crm-pipeline sync full --objects Lead,Contact")
def full(
    context: typer.Context,
    *,
    objects: Objects = "",
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Read anew what an interrupted full sync has landed."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every selected record of every object, or of some, into its table.

    An interrupted full sync goes on where it stopped. One that meets another sync at work waits for
    it. Exit code 0 only when every object committed.
    """
    run = _SyncCommand.begin(context, as_json=as_json)
    known, chosen = run.objects(objects)
    run.execute(
        "full_sync",
        lambda _: ({"objects": list(chosen), "resume": not restart}, {}),
        expected_objects=chosen or known,
    )


@app.command(epilog="Example: crm-pipeline sync differential --json")
def differential(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Read what changed since the last committed sync, as the schedule would now.

    Refuses with the reason while a full sync runs.
    """
    run = _SyncCommand.begin(context, as_json=as_json)
    interval = run.settings.differential.interval_minutes

    def as_scheduled(instance: "dg.DagsterInstance") -> "_Request":
        from crm_pipeline.cli import dagster_runs  # noqa: PLC0415 - imports Dagster

        return dagster_runs.scheduled_request(instance, interval)

    run.execute(
        "differential_sync", as_scheduled, expected_objects=tuple(run.settings.enabled_objects)
    )


@app.command(epilog="Example: crm-pipeline sync reconcile --objects Lead")
def reconcile(context: typer.Context, *, objects: Objects = "", as_json: AsJson = False) -> None:
    """Compare ids and stamps of every record with the CRM, and mend what differs.

    Finds what no differential can: records that were missed, deleted long ago or hidden from us,
    and rows that somebody changed in the warehouse. Dagster does it every night by itself.
    """
    run = _SyncCommand.begin(context, as_json=as_json)
    known, chosen = run.objects(objects)
    run.execute(
        "reconcile", lambda _: ({"objects": list(chosen)}, {}), expected_objects=chosen or known
    )


@app.command(epilog="Example: crm-pipeline sync refresh --objects Opportunity")
def refresh(context: typer.Context, *, objects: Objects = "", as_json: AsJson = False) -> None:
    """Read calculated and newly mapped columns of every record; the cheap part of a full sync.

    Formulas, roll-ups and fields of a parent record change without a sign of it on the record.
    Objects without such a column are left alone.
    """
    run = _SyncCommand.begin(context, as_json=as_json)
    _, chosen = run.objects(objects)
    run.execute("refresh", lambda _: ({"objects": list(chosen)}, {}), expected_objects=())


@app.command(epilog="Example: crm-pipeline sync record Lead 00Q5g00000AbCdEFGH")
def record(
    context: typer.Context,
    object_name: Annotated[str, typer.Argument(metavar="OBJECT", help="API name of the object.")],
    record_id: Annotated[str, typer.Argument(metavar="ID", help="Id, 15 or 18 characters.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Read one record now, whatever else runs."""
    run = _SyncCommand.begin(context, as_json=as_json)
    known = tuple(run.settings.enabled_objects)
    [name] = require_known([object_name], known, where="the settings file")
    run.execute(
        "sync_record",
        lambda _: (record_form(name, record_id), {}),
        expected_objects=(name,),
    )


def record_form(object_name: str, record_id: str) -> Mapping[str, object]:
    """Run config of the job that reads one record, as on the UI's launchpad."""
    wanted = {"object": object_name, "record_id": record_id}
    return {"ops": {"sync_one_record": {"config": wanted}}}


_Request = tuple[Mapping[str, object], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class _SyncCommand:
    """What the syncs have in common."""

    installation: "Installation"
    settings: Settings
    is_verbose: bool
    as_json: bool

    @classmethod
    def begin(cls, context: typer.Context, *, as_json: bool) -> "_SyncCommand":
        """Find out early whether the settings can work, before anything is started."""
        from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - imports alembic

        installation = Installation.from_environment()
        settings = installation.settings
        if settings.crm.type == "salesforce":
            salesforce_login(installation.environment)
        is_verbose = bool(context.find_root().params.get("verbose"))
        return cls(installation, settings, is_verbose, as_json)

    def objects(self, given: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Every object that takes part, and those that were named on the command line."""
        known = tuple(self.settings.enabled_objects)
        return known, tuple(require_known(split_names(given), known, where="the settings file"))

    def execute(
        self,
        job: str,
        request: Callable[["dg.DagsterInstance"], _Request],
        *,
        expected_objects: Sequence[str],
    ) -> None:
        """Run a job, show what it did, and raise what stopped it."""
        from crm_pipeline.cli.progress import console_on_a_copy  # noqa: PLC0415

        report = run_job(
            self.installation,
            job,
            request,
            console=console_on_a_copy(),
            expected_objects=expected_objects,
            is_verbose=self.is_verbose,
        )
        if self.as_json:
            print_json(report.document())
        else:
            report.show(stdout())
        report.require_success()


def run_job(
    installation: "Installation",
    job: str,
    request: Callable[["dg.DagsterInstance"], _Request],
    *,
    console: Console,
    expected_objects: Sequence[str],
    is_verbose: bool = False,
) -> "RunReport":
    """Run a job of the installation in this process, with progress on a console.

    Args:
        installation: whose.
        job: its name.
        request: run config and tags, decided when the instance is open.
        console: for the progress; must survive the redirection of the standard streams.
        expected_objects: those that must have committed for the run to be a success.
        is_verbose: leave Dagster's own records on the terminal.
    """
    home = prepare_dagster_home(installation.environment)
    home.enter()
    warehouse = installation.warehouse()
    with installation.engine() as engine:
        # A login that cannot work is one sentence here, and a failed run in the UI otherwise.
        engine.require_enabled()
        engine.require_own_organization()
    # Dagster takes more than a second to import: after everything that can refuse cheaply.
    from crm_pipeline.cli import dagster_runs, outcomes, progress  # noqa: PLC0415

    log = installation.environment.home.resolve() / "logs" / "sync.log"
    quiet = nullcontext() if is_verbose else dagster_runs.noise_into(log)
    command_id = dagster_runs.new_command_id()
    with quiet, dagster_runs.open_instance() as instance:
        run_config, tags = request(instance)
        with progress.followed(
            console, warehouse, lambda: dagster_runs.find_run_id(instance, command_id)
        ):
            end = dagster_runs.execute(
                job, instance, command_id=command_id, run_config=run_config, tags=tags
            )
    return outcomes.report_of(
        warehouse,
        end.run_id,
        job,
        is_success=end.is_success,
        failures=end.failures,
        expected_objects=expected_objects if end.is_success else (),
    )
