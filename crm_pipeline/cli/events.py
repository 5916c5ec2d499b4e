"""`crm-pipeline events`: load files of marketing events now, and mend what was rejected.

Belongs here: options, tables and sentences. Does not belong here: loading (events/), and the job
that does it when files come by themselves (defs/marketing_events.py).
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from crm_pipeline.cli.console import print_json, stderr, stdout, table_of
from crm_pipeline.config.event_folder import absolute_folder
from crm_pipeline.errors import PermanentError, UsageError

if TYPE_CHECKING:
    from crm_pipeline.events.files import EventFolder
    from crm_pipeline.events.intake import Intake
    from crm_pipeline.sync.assembly import Installation

app = typer.Typer(name="events", help="Load marketing events from files.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
_FILES = {
    "file": "File",
    "rows": "Rows",
    "loaded": "Loaded",
    "known": "Known already",
    "rejected": "Rejected",
    "seconds": "Seconds",
}
_ROWS = {"file": "File", "row_number": "Row", "column": "Column", "reason": "Reason", "row": "Was"}
_MOST_SHOWN = 100


@app.callback()
def events() -> None:
    """Load marketing events from files, and see what was rejected."""


@app.command(epilog="Example: crm-pipeline events load clicks.csv")
def load(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files; without any, what is new in the folder."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Load files of events now: those that are named, or all that are new in events.folder.

    CSV, JSON lines, JSON (SendGrid's and Postmark's webhooks too) and Parquet. An event that is
    there already is not loaded twice, so a file may be loaded as often as you like. Rows that are
    no events go to the quarantine; exit code 1 only when a file could not be read at all.
    """
    from crm_pipeline.events.intake import take_in  # noqa: PLC0415 - what --help need not pay
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415

    installation = Installation.from_environment()
    installation.switch.require()
    folder = _folder(installation, files)
    warehouse = installation.warehouse()
    if files:
        _count_as_new(installation, folder)
    intake = take_in(
        warehouse,
        folder,
        run_id=f"command {uuid4().hex[:12]}",
        require_enabled=installation.switch.require,
    )
    if as_json:
        print_json({**asdict(intake), "loaded": intake.loaded, "rejected": intake.rejected})
    else:
        show_intake(intake)
    if intake.refused:
        raise PermanentError("\n".join(f"{one.file}: {one.refusal}" for one in intake.refused))


@app.command(epilog="Example: crm-pipeline events rejected clicks.csv --retry")
def rejected(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Only this file, by its name.")
    ] = None,
    *,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let these files be read again with the next load.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Let the rejected rows go for good; they are no events.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show rows of files that are no events, why not, and files that could not be read.

    Mend the rows in their file: it is read again because it has changed, and what is right by then
    leaves the quarantine. Or send the events again in another file, and drop the rows here.
    """
    if retry and drop:
        raise UsageError("Choose one of --retry and --drop.")
    from crm_pipeline.events import quarantine  # noqa: PLC0415 - what --help need not pay
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415

    warehouse = Installation.from_environment().warehouse()
    if retry:
        count = quarantine.read_again(warehouse, file=file)
        stderr().print(f"{count} files count as new. Now load them: crm-pipeline events load")
        return
    if drop:
        count = quarantine.drop_rejected(warehouse, file=file)
        stderr().print(f"{count:,} rejected rows are gone.")
        return
    rows = quarantine.rejected_rows(warehouse, file=file, limit=_MOST_SHOWN)
    count = quarantine.count_rejected(warehouse, file=file)
    refused = quarantine.refused_files(warehouse, file=file)
    if as_json:
        document = {"count": count, "rows": [asdict(row) for row in rows], "refused": dict(refused)}
        print_json(document)
        return
    _show_rejected([asdict(row) for row in rows], count, refused)


def _folder(installation: "Installation", files: list[Path] | None) -> "EventFolder":
    from crm_pipeline.events.files import SingleFiles, event_folder  # noqa: PLC0415

    if files:
        return SingleFiles(tuple(files))
    folder = installation.settings.events.folder
    if folder is None:
        raise UsageError(
            "Name a file, or set events.folder in the settings file to load what is new there."
        )
    return event_folder(absolute_folder(folder, beside=installation.environment.config_file))


def _count_as_new(installation: "Installation", folder: "EventFolder") -> None:
    """Who names a file wants it read, whether or not it was read before."""
    from crm_pipeline.events.quarantine import forget_version  # noqa: PLC0415

    locations = [file.location for file in folder.listing().files]
    with installation.warehouse().connect() as connection:
        forget_version(connection, "f.location = ANY(%(files)s)", {"files": locations})


def show_intake(intake: "Intake") -> None:
    """What an intake did, file by file."""
    rows: list[Mapping[str, object]] = [asdict(one) for one in intake.files if not one.refusal]
    if rows:
        stdout().print(table_of(rows, _FILES), soft_wrap=False)
    said = []
    if not intake.files:
        said.append("No file is new.")
    if intake.left_aside:
        said.append(f"Left aside, for their names tell no format: {', '.join(intake.left_aside)}.")
    if intake.waiting:
        said.append(f"{intake.waiting:,} files wait for the next load.")
    if intake.rejected:
        said.append(f"{intake.rejected:,} rows were rejected: crm-pipeline events rejected")
    if intake.loaded:
        said.append("The marketing models follow by themselves while `crm-pipeline up` runs.")
    stderr().print("\n".join(said), markup=False)


def _show_rejected(rows: list[dict[str, object]], count: int, refused: Mapping[str, str]) -> None:
    console = stdout()
    if rows:
        console.print(table_of(rows, _ROWS), soft_wrap=False)
    for file, reason in refused.items():
        console.print(f"{file}: {reason}", markup=False)
    if count > len(rows):
        stderr().print(f"These are {len(rows)} of {count:,} rows; name a file to see its own.")
    if not rows and not refused:
        stderr().print("No row was rejected, and every file could be read.")
    else:
        stderr().print(
            "Mend the rows in their file and it is read again, or send the events in another file "
            "and run this with --drop."
        )
