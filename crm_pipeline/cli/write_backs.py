"""`crm-pipeline write-backs`: look at the outbox, empty it, and decide about what was parked.

Belongs here: options. Does not belong here: the statements (warehouse/outbox_desk.py) and sending
(writeback/).
"""

from collections.abc import Collection
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from crm_pipeline.cli.console import print_json, stderr, stdout, table_of
from crm_pipeline.errors import UsageError

if TYPE_CHECKING:
    from crm_pipeline.sync.assembly import Installation
    from crm_pipeline.warehouse.outbox_desk import Chosen
    from crm_pipeline.writeback.field_setup import FieldSetUp

app = typer.Typer(
    name="write-backs", help="Changes that wait for the CRM, and their ends.", no_args_is_help=True
)
_COLUMNS = {
    "write_id": "Id",
    "state": "State",
    "origin": "Origin",
    "operation": "Operation",
    "object_name": "Object",
    "record_id": "Record",
    "field_names": "Fields",
    "code": "Code",
    "reason": "Reason",
    "remedy": "Remedy",
}
_FIELD_COLUMNS = {
    "object_name": "Object",
    "name": "Field",
    "crm_type": "Type",
    "state": "Outcome",
    "reason": "Why",
    "remedy": "What to do",
}


class Shown(StrEnum):
    """The states that can be asked for."""

    WAITING = "waiting"
    HELD = "held"
    SENDING = "sending"
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    PARKED = "parked"
    DISMISSED = "dismissed"


Ids = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="Parked write-backs, by their id.")
]
Object = Annotated[str | None, typer.Option("--object", help="Only those of this object.")]
Code = Annotated[str | None, typer.Option("--code", help="Only those parked with this code.")]
Origin = Annotated[str | None, typer.Option("--origin", help="Only those of this origin.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are parked.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.callback()
def write_backs() -> None:
    """Changes that wait for the CRM, and their ends."""


@app.command("list", epilog="Example: crm-pipeline write-backs list --state parked")
def list_(
    *,
    state: Annotated[Shown | None, typer.Option(help="Only those with this state.")] = None,
    object_name: Object = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest write-backs: what was wanted of which record, and how it ended.

    No value is shown. The view crm_sync.write_back_log holds the same for analysts.
    """
    from crm_pipeline.warehouse import outbox_desk  # noqa: PLC0415 - `--help` should not pay

    warehouse = _installation().warehouse()
    rows = outbox_desk.read_log(
        warehouse, state=state.value if state else None, object_name=object_name, limit=limit
    )
    totals = outbox_desk.totals(warehouse)
    if as_json:
        print_json({"totals": asdict(totals), "write_backs": rows})
        return
    console = stdout()
    console.print(
        f"{totals.enqueued:,} write-backs: {totals.applied:,} applied, {totals.superseded:,}"
        f" superseded, {totals.parked:,} parked, {totals.held:,} held, {totals.waiting:,} waiting.",
        markup=False,
    )
    if rows:
        console.print(table_of(rows, _COLUMNS), soft_wrap=False)


@app.command(epilog="Example: crm-pipeline write-backs requeue --code STRING_TOO_LONG")
def requeue(
    ids: Ids = None,
    *,
    object_name: Object = None,
    code: Code = None,
    origin: Origin = None,
    everything: Everything = False,
) -> None:
    """Let parked write-backs wait again, after what they were refused for was mended.

    Where a newer value for the same field is known by now, the older one ends as superseded.
    """
    from crm_pipeline.warehouse import outbox_desk  # noqa: PLC0415 - `--help` should not pay

    chosen = _chosen(ids, object_name, code, origin, everything=everything)
    waiting, superseded = outbox_desk.requeue(_installation().warehouse(), chosen)
    stdout().print(
        f"{waiting:,} wait again; {superseded:,} were superseded by a newer value.", markup=False
    )


@app.command(epilog="Example: crm-pipeline write-backs dismiss --object Lead --code NOT_FOUND")
def dismiss(
    ids: Ids = None,
    *,
    object_name: Object = None,
    code: Code = None,
    origin: Origin = None,
    everything: Everything = False,
) -> None:
    """Let parked write-backs rest: they stay parked, and nobody is asked to look any more."""
    from crm_pipeline.warehouse import outbox_desk  # noqa: PLC0415 - `--help` should not pay

    chosen = _chosen(ids, object_name, code, origin, everything=everything)
    number = outbox_desk.dismiss(_installation().warehouse(), chosen)
    stdout().print(f"{number:,} dismissed.", markup=False)


@app.command(epilog="Example: crm-pipeline write-backs drain")
def drain(*, as_json: AsJson = False) -> None:
    """Send what is due to the CRM, until nothing is left that may be sent now.

    One drainer is at work at a time. Exit code 1 when something keeps write-backs waiting.
    """
    from crm_pipeline.writeback.drain import Drain  # noqa: PLC0415 - `--help` should not pay

    installation = _installation()
    settings = installation.settings
    connector = installation.write_connector(settings)
    try:
        drainer = Drain(settings, connector, installation.warehouse(), installation.switch.require)
        outcome = drainer.run(f"cli {uuid4().hex[:8]}")
    finally:
        connector.close()
    if as_json:
        print_json(asdict(outcome))
    else:
        stdout().print(
            f"{outcome.applied:,} applied, {outcome.superseded:,} superseded, {outcome.parked:,}"
            f" parked, {outcome.waiting:,} still waiting; {outcome.api_calls:,} API calls.",
            markup=False,
        )
    for problem in outcome.problems:
        stderr().print(problem, markup=False)
    if outcome.problems and outcome.waiting:
        raise typer.Exit(1)


@app.command(epilog="Example: crm-pipeline write-backs fields --key-field-on Lead")
def fields(
    *,
    key_field_on: Annotated[
        list[str] | None,
        typer.Option(
            "--key-field-on",
            metavar="OBJECT",
            help="Make the key field on this object, too: records will be created in it.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the fields that enabled write-backs need in the CRM, and let our user write them.

    What is there already stays as it is. Standard fields are only looked at. Exit code 1 when a
    person must act; the table says what to do.
    """
    found = _set_up(key_field_on or (), only_look=dry_run)
    rows = [
        {
            "object_name": one.wanted.object_name,
            "name": one.wanted.name,
            "crm_type": one.crm_type,
            "state": one.state.value,
            "reason": one.reason,
            "remedy": one.remedy,
            "setting": one.wanted.setting,
        }
        for one in found.fields
    ]
    if as_json:
        print_json({"fields": rows, "left_out": found.left_out, "lines_to_map": found.lines_to_map})
    else:
        _show_fields(rows, found)
    if found.unready:
        raise typer.Exit(1)


def _set_up(key_field_on: Collection[str], *, only_look: bool) -> "FieldSetUp":
    from crm_pipeline.writeback.field_setup import set_up_fields  # noqa: PLC0415 - as above

    installation = _installation()
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return set_up_fields(settings, connector, key_field_on=key_field_on, only_look=only_look)
    finally:
        connector.close()


def _show_fields(rows: list[dict[str, str]], found: "FieldSetUp") -> None:
    if rows:
        shown = [
            {**row, "reason": row["reason"] or " ", "remedy": row["remedy"] or " "} for row in rows
        ]
        stdout().print(table_of(shown, _FIELD_COLUMNS), soft_wrap=False)
    else:
        stdout().print("No write-back that needs a field is enabled.", markup=False)
    for name in found.left_out:
        stderr().print(
            f"{name} is not among the enabled objects of the settings: nothing was made on it.",
            markup=False,
        )
    if found.lines_to_map:
        stderr().print(
            "Add these lines to the settings file, so that values are compared before they are"
            f" written:\n{found.lines_to_map}",
            markup=False,
        )


def _installation() -> "Installation":
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - `--help` should not pay

    return Installation.from_environment()


def _chosen(
    ids: list[int] | None,
    object_name: str | None,
    code: str | None,
    origin: str | None,
    *,
    everything: bool,
) -> "Chosen":
    """What the command line names; naming nothing must be said, for it means everything."""
    from crm_pipeline.warehouse.outbox_desk import Chosen  # noqa: PLC0415 - as above

    if not (ids or object_name or code or origin or everything):
        raise UsageError("Name ids, --object, --code or --origin; or pass --all.")
    return Chosen(
        object_name=object_name, code=code, origin=origin, write_ids=tuple(ids) if ids else None
    )
