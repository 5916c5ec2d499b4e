"""`crm-pipeline actions`: ask for something in the CRM, decide it, and see what became of it.

Belongs here: options, tables and sentences. Does not belong here: deciding (actions/), the table
(warehouse/actions.py) and sending (writeback/).
"""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from crm_pipeline.cli.console import print_json, stderr, stdout, table_of
from crm_pipeline.errors import UsageError
from crm_pipeline.model.actions import ActionKind, ActionsOutcome

if TYPE_CHECKING:
    from crm_pipeline.sync.assembly import Installation

app = typer.Typer(
    name="actions", help="Create and update records in the CRM on request.", no_args_is_help=True
)
_COLUMNS = {
    "action_id": "Id",
    "state": "State",
    "kind": "Kind",
    "object_name": "Object",
    "record_id": "Record",
    "requested_by": "By",
    "code": "Code",
    "reason": "Reason",
    "remedy": "Remedy",
    "matches": "Found",
}
_CAPABILITIES = {
    "object_name": "Object",
    "can_create": "Create",
    "can_update": "Update",
    "upsert_keys": "Upsert by",
    "found_by": "Found by",
    "required": "Required",
    "assignment": "Assignment",
    "lacks": "Lacks",
}


class Shown(StrEnum):
    """The states that can be asked for."""

    REQUESTED = "requested"
    WAITING = "waiting"
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    PARKED = "parked"
    UNNEEDED = "unneeded"
    HELD = "held"
    REFUSED = "refused"
    DISMISSED = "dismissed"


Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Held or refused actions.")
]
Code = Annotated[str | None, typer.Option("--code", help="Only those with this code.")]
By = Annotated[str | None, typer.Option("--by", help="Only those that this rule or tool wanted.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are held or refused.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.callback()
def actions() -> None:
    """Create and update records in the CRM on request."""


@app.command(
    epilog="Example: crm-pipeline actions request --object Lead --field LastName=Doe"
    " --field Company=Acme --field Email=doe@example.com"
)
def request(
    *,
    object_name: Annotated[str, typer.Option("--object", help="Such as Lead, Case or Task.")],
    kind: Annotated[ActionKind, typer.Option(help="What is done.")] = ActionKind.CREATE,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A field by its API name; NAME= empties it."),
    ] = None,
    email: Annotated[
        str | None, typer.Option(help="The person's address, by which she is found.")
    ] = None,
    record_id: Annotated[str | None, typer.Option(help="The record to update.")] = None,
    external_id: Annotated[
        str | None, typer.Option(metavar="FIELD=VALUE", help="What the record is found by.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="on_duplicate, assignment, if_found, match, owner, campaign, only_new or"
            " only_empty.",
        ),
    ] = None,
    action_id: Annotated[
        str | None, typer.Option("--id", help="A key of yours: the same id is the same action.")
    ] = None,
) -> None:
    """Ask for a record to be created or updated, and print the action's id.

    It is decided and sent by the job `actions` while crm-pipeline up runs, or by crm-pipeline
    actions resolve and crm-pipeline write-backs drain.
    """
    from crm_pipeline.actions.asking import (  # noqa: PLC0415 - `--help` should not pay
        fields_typed,
        new_action,
        options_typed,
    )
    from crm_pipeline.warehouse.actions import ask  # noqa: PLC0415

    action = new_action(
        requested_by="cli",
        object_name=object_name,
        kind=kind,
        fields=fields_typed(field or ()),
        options=options_typed(option or ()),
        action_id=action_id,
        record_id=record_id,
        email=email,
        external_id=external_id,
    )
    is_new = ask(_installation().warehouse(), action)
    stdout().print(action.action_id, markup=False)
    if not is_new:
        stderr().print("An action with this id was asked for already; nothing was added.")


@app.command("list", epilog="Example: crm-pipeline actions list --state refused")
def list_(
    *,
    state: Annotated[Shown | None, typer.Option(help="Only those with this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest actions, and how they ended; the view crm_sync.action_log holds the same."""
    from crm_pipeline.warehouse.actions import read_log  # noqa: PLC0415 - as above

    rows = read_log(_installation().warehouse(), state=state.value if state else None, limit=limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        stderr().print("There is no such action.")
        return
    shown = [{**row, "matches": _listed(row["matches"])} for row in rows]
    stdout().print(table_of(shown, _COLUMNS), soft_wrap=False)


@app.command(epilog="Example: crm-pipeline actions resolve --deliver")
def resolve(
    *,
    deliver: Annotated[
        bool, typer.Option("--deliver", help="Send what was decided, too, until all is done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let the rules look, and decide what was asked for: which record is meant, or why none is.

    Exit code 1 when a rule could not look.
    """
    outcome = _decided()
    _show_outcome(outcome, as_json=as_json)
    while deliver and outcome.enqueued:
        from crm_pipeline.cli.write_backs import drain  # noqa: PLC0415 - as above
        from crm_pipeline.warehouse.actions import is_any_due  # noqa: PLC0415

        drain()
        if not is_any_due(_installation().warehouse()):
            break
        outcome = _decided()
        _show_outcome(outcome, as_json=as_json)
    if outcome.problems:
        raise typer.Exit(1)


def _decided() -> ActionsOutcome:
    from crm_pipeline.actions.resolving import resolve as decide  # noqa: PLC0415 - as above

    installation = _installation()
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return decide(
            settings,
            connector,
            installation.warehouse(),
            run_id=f"cli {uuid4().hex[:8]}",
            require_enabled=installation.switch.require,
        )
    finally:
        connector.close()


def _show_outcome(outcome: ActionsOutcome, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(outcome))
    else:
        stdout().print(
            f"{outcome.enqueued:,} to be sent, {outcome.unneeded:,} unneeded, {outcome.held:,}"
            f" held, {outcome.refused:,} refused, {outcome.waiting:,} waiting for another;"
            f" {outcome.asked_by_rules:,} were asked for by rules.",
            markup=False,
        )
    for problem in outcome.problems:
        stderr().print(problem, markup=False)


@app.command(epilog="Example: crm-pipeline actions capabilities")
def capabilities(*, as_json: AsJson = False) -> None:
    """Show what can be created and updated in this CRM as our user, and by which keys and options.

    One API call per object.
    """
    from crm_pipeline.actions.capabilities import capabilities as found  # noqa: PLC0415 - as above
    from crm_pipeline.warehouse.actions import assignment_rules  # noqa: PLC0415

    installation = _installation()
    settings = installation.settings
    rules = assignment_rules(installation.warehouse()) or {}
    connector = installation.connector(settings)
    try:
        rows = [asdict(one) for one in found(settings, connector, rules)]
    finally:
        connector.close()
    if as_json:
        print_json(rows)
        return
    shown = [{key: _cell(value) for key, value in row.items()} for row in rows]
    stdout().print(table_of(shown, _CAPABILITIES), soft_wrap=False)


@app.command(epilog="Example: crm-pipeline actions requeue --code NOT_FOUND")
def requeue(
    ids: Ids = None,
    *,
    code: Code = None,
    by: By = None,
    everything: Everything = False,
    record_id: Annotated[
        str | None,
        typer.Option(help="The record that is meant, of several or instead of a wrong id."),
    ] = None,
) -> None:
    """Let held and refused actions be decided again, after what was wrong was mended."""
    from crm_pipeline.warehouse import actions as desk  # noqa: PLC0415 - as above

    _require_choice(ids, code, by, everything=everything)
    if record_id and len(ids or ()) != 1:
        raise UsageError("Name the one action that --record-id is for.")
    number = desk.requeue(
        _installation().warehouse(),
        action_ids=ids or None,
        code=code,
        requested_by=by,
        record_id=record_id,
    )
    stdout().print(f"{number:,} are decided again.", markup=False)


@app.command(epilog="Example: crm-pipeline actions dismiss --by form_lead")
def dismiss(
    ids: Ids = None, *, code: Code = None, by: By = None, everything: Everything = False
) -> None:
    """Let held and refused actions rest for good."""
    from crm_pipeline.warehouse import actions as desk  # noqa: PLC0415 - as above

    _require_choice(ids, code, by, everything=everything)
    number = desk.dismiss(
        _installation().warehouse(), action_ids=ids or None, code=code, requested_by=by
    )
    stdout().print(f"{number:,} dismissed.", markup=False)


def _installation() -> "Installation":
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - as above

    return Installation.from_environment()


def _require_choice(
    ids: list[str] | None, code: str | None, by: str | None, *, everything: bool
) -> None:
    """Naming nothing must be said, for it means everything."""
    if not (ids or code or by or everything):
        raise UsageError("Name ids, --code or --by; or pass --all.")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _listed(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _listed(values: object) -> str | None:
    assert isinstance(values, Sequence)
    return ", ".join(map(str, values)) or None
