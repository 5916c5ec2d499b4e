"""`crm-pipeline write-backs`: fill the outbox, look at it, empty it, and decide about its rows.

Belongs here: options. Does not belong here: the statements (warehouse/outbox_desk.py) and sending
(writeback/).
"""

from collections.abc import Collection, Mapping
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
    from crm_pipeline.writeback.automatic import Decision
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
_DECISIONS = {
    "name": "Write-back",
    "records": "Records",
    "waiting": "To be sent",
    "held": "Held",
    "parked": "Parked",
    "batch": "Batch",
}
_PLANNED = {
    "state": "State",
    "origin": "Origin",
    "object_name": "Object",
    "record_id": "Record",
    "field_names": "Field",
    "before": "Before",
    "after": "After",
}
_HELD = {
    "batch": "Held batch",
    "origin": "Origin",
    "writes": "Changes",
    "records": "Records",
    "held_because": "Why",
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
Batch = Annotated[str, typer.Argument(help="As `crm-pipeline write-backs plan` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.callback()
def write_backs() -> None:
    """Changes that wait for the CRM, and their ends."""


@app.command(epilog="Example: crm-pipeline write-backs decide lead_scores")
def decide(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="consent, visits, touches, lead_scores; default: all."
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Find what the CRM's records lack, and enqueue it; `drain` sends it.

    Where the CRM holds what it should, nothing is enqueued. A large change is held until it is
    approved, but an opt-out never is.
    """
    from crm_pipeline.writeback.automatic import (  # noqa: PLC0415 - `--help` should not pay
        decide,
        enabled_write_backs,
    )

    installation = _installation()
    settings = installation.settings
    found = [
        decide(
            settings,
            installation.warehouse(),
            name,
            run_id=f"cli {uuid4().hex[:8]}",
            require_enabled=installation.switch.require,
        )
        for name in names or enabled_write_backs(settings)
    ]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    _show_decisions(found)


@app.command(epilog="Example: crm-pipeline write-backs plan --origin lead_scores")
def plan(
    *,
    object_name: Object = None,
    origin: Origin = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The next so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what waits for the CRM or for your approval: record, field, before and after.

    This shows values of records. Nothing is asked of the CRM: `before` is what the record held, as
    far as it was known, when the change was enqueued.
    """
    from crm_pipeline.warehouse import outbox_desk  # noqa: PLC0415 - `--help` should not pay

    found = outbox_desk.read_plan(
        _installation().warehouse(), object_name=object_name, origin=origin, limit=limit
    )
    if as_json:
        print_json(asdict(found))
        return
    console = stdout()
    console.print(
        f"{found.waiting_writes:,} changes wait to be sent, {found.held_writes:,} for approval.",
        markup=False,
    )
    if found.rows:
        shown = [
            {
                **row,
                "before": _before(row),
                "after": "(empty)" if row["after"] is None else row["after"],
            }
            for row in found.rows
        ]
        console.print(table_of(shown, _PLANNED), soft_wrap=False)
    if found.held:
        console.print(table_of(found.held, _HELD), soft_wrap=False)
        stderr().print(
            "Let a batch go with `crm-pipeline write-backs approve BATCH`, or end it with"
            " `crm-pipeline write-backs reject BATCH`.",
            markup=False,
        )


@app.command(epilog="Example: crm-pipeline write-backs approve lead_scores-0a1b2c3d4e")
def approve(batch: Batch) -> None:
    """Let a held batch go; `drain` sends it."""
    from crm_pipeline.warehouse import outbox_desk  # noqa: PLC0415 - `--help` should not pay

    with _installation().warehouse().connect() as connection:
        number = outbox_desk.approve(connection, batch)
    _require_held(number, batch)
    stdout().print(f"{number:,} changes may go now.", markup=False)


@app.command(epilog="Example: crm-pipeline write-backs reject lead_scores-0a1b2c3d4e")
def reject(batch: Batch) -> None:
    """End a held batch without sending it; a value is asked for again only when it changes."""
    from crm_pipeline.warehouse import outbox_desk  # noqa: PLC0415 - `--help` should not pay

    with _installation().warehouse().connect() as connection:
        number = outbox_desk.reject(connection, batch)
    _require_held(number, batch)
    stdout().print(f"{number:,} changes are rejected.", markup=False)


@app.command(epilog="Example: crm-pipeline write-backs undo lead_scores-0a1b2c3d4e")
def undo(batch: Batch, *, as_json: AsJson = False) -> None:
    """Give fields back what they held before a batch, where they still hold what it wrote.

    The records are read from the CRM first. Records that the batch made are listed and stay.
    `drain` sends the changes. Opt-outs and bounces cannot be undone.
    """
    from crm_pipeline.writeback.undo import undo  # noqa: PLC0415 - `--help` should not pay

    installation = _installation()
    connector = installation.write_connector(installation.settings)
    try:
        done = undo(
            installation.warehouse(), connector, batch, require_enabled=installation.switch.require
        )
    finally:
        connector.close()
    if as_json:
        print_json(asdict(done))
        return
    console = stdout()
    console.print(
        f"{done.reversed:,} fields get back what they held"
        + (f" (batch {done.batch})" if done.batch else "")
        + f"; {done.changed_since:,} were changed since and stay; of {done.unknown_before:,} nobody"
        " knows what they held.",
        markup=False,
    )
    if done.asked_before:
        console.print(f"{done.asked_before:,} were taken back by an earlier undo.", markup=False)
    if done.pending:
        stderr().print(f"{done.pending:,} changes of the batch were not sent yet.", markup=False)
    for record in done.created:
        console.print(f"{record} was made by this batch and stays.", markup=False)


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


def _show_decisions(found: "list[Decision]") -> None:
    console = stdout()
    if not found:
        console.print("No write-back is switched on; see `write_backs` in the settings file.")
        return
    rows = [
        {
            "name": one.name,
            "records": one.records,
            "waiting": one.enqueued.waiting,
            "held": one.enqueued.held,
            "parked": one.enqueued.parked,
            "batch": one.batch,
        }
        for one in found
    ]
    console.print(table_of(rows, _DECISIONS), soft_wrap=False)
    for one in found:
        for said in (*one.notes, one.held_because):
            if said:
                stderr().print(f"{one.name}: {said}", markup=False)


def _before(row: Mapping[str, object]) -> object:
    if not row["is_before_known"]:
        return None
    return "(empty)" if row["before"] is None else row["before"]


def _require_held(number: int, batch: str) -> None:
    if not number:
        raise UsageError(
            f"Nothing is held under the batch {batch}; see `crm-pipeline write-backs plan`."
        )


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
