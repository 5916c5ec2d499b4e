"""`crm-pipeline forget`: shows what is here of a person, and removes it with `--yes`.

Belongs here: arguments, tables and sentences. Does not belong here: finding and removing
(sync/forget.py).
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from crm_pipeline.cli.console import print_json, stderr, stdout, table_of
from crm_pipeline.cli.init import require_known
from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.sync.forget import Found, find_person, forget_person, person_named, still_in_crm

if TYPE_CHECKING:
    from crm_pipeline.config.settings import Settings
    from crm_pipeline.crm.port import CrmConnector
    from crm_pipeline.sync.assembly import Installation

OUT_OF_REACH = (
    "Out of reach of this command: the CRM itself; files of events, which bring the person back "
    "when they are read again; backups, replicas and PostgreSQL's own files until they are written "
    "over; Dagster's history, which holds record ids and first letters."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "Example: crm-pipeline forget Lead 00Q5g00000AbCdEFGH --yes"
    app.command("forget", epilog=example)(forget)


def forget(
    who: Annotated[
        str,
        typer.Argument(
            metavar="OBJECT|ADDRESS",
            help="An e-mail address, or - to read it from standard input; or an object's name.",
        ),
    ],
    record_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of a record of that object.")
    ] = None,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without this it is shown.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Remove everything here that tells of one person, after showing what that is.

    Rows of the typed tables and marts, tombstones, former versions, rejected records, half-read
    syncs, marketing events and consent. Asks the CRM whether it still holds the person: the next
    sync would bring back what it holds.
    """
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - imports alembic

    installation = Installation.from_environment()
    settings = installation.settings
    if record_id is not None:
        require_known([who], tuple(settings.enabled_objects), where="the settings file")
    connector, silence = _connector(installation, settings)
    try:
        words = sys.stdin.readline() if who == "-" else who
        person = person_named(words, record_id, connector)
        warehouse = installation.warehouse()
        found = (forget_person if yes else find_person)(warehouse, settings, person)
        held: Mapping[str, int] = {}
        if connector is not None:
            try:
                held = still_in_crm(settings, connector, found.person)
            except CrmPipelineError as error:
                silence = str(error)
    finally:
        if connector is not None:
            connector.close()
    if as_json:
        print_json(
            {
                "is_done": yes,
                "traces": [asdict(trace) for trace in found.traces],
                "restarted_syncs": len(found.half_read),
                "still_in_crm": dict(held),
                "crm_not_asked": silence,
            }
        )
        return
    _show(found, is_done=yes)
    _say(found, held, silence, is_done=yes)


def _connector(
    installation: "Installation", settings: "Settings"
) -> tuple["CrmConnector | None", str | None]:
    """The CRM, or why it cannot be asked; forgetting must not depend on it."""
    from crm_pipeline.crm.registry import make_connector  # noqa: PLC0415

    try:
        return make_connector(settings.crm, installation.environment), None
    except CrmPipelineError as error:
        return None, str(error)


def _show(found: Found, *, is_done: bool) -> None:
    removed = "removed" if is_done else "would be removed"
    rows = [
        {
            "where": f"{trace.schema}.{trace.table}",
            "rows": trace.rows,
            "what": removed if trace.is_removed else "stays: it only points there, and lives",
        }
        for trace in found.traces
    ]
    if rows:
        columns = {"where": "Where", "rows": "Rows", "what": "What becomes of them"}
        stdout().print(table_of(rows, columns), soft_wrap=False)


def _say(found: Found, held: Mapping[str, int], silence: str | None, *, is_done: bool) -> None:
    said = []
    if found.is_nothing:
        said.append("Nothing here tells of this person.")
    elif not is_done:
        said.append("Nothing was changed. To remove it, run the command again with --yes.")
    if found.half_read and is_done:
        said.append("An unfinished sync had read this person; it will begin anew.")
    if held:
        counts = ", ".join(f"{count} {name}" for name, count in held.items())
        said.append(
            f"The CRM still holds records of this person ({counts}): the next sync that reads them "
            "brings them back. Delete them there first."
        )
    if silence:
        said.append(f"The CRM was not asked whether it still holds this person: {silence}")
    if is_done:
        said.append(OUT_OF_REACH)
    stderr().print("\n".join(said), markup=False)
